"""What is read, and changes nothing."""
