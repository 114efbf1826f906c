"""The command line and the embedded servers."""
