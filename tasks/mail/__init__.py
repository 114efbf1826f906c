"""Electronic mail: the words of a message, and the server that takes it."""
