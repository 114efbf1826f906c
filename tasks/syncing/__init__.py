"""What a paged source on the web answers, and where it says that it goes on."""
