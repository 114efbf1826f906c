"""What is newer than the rows after a database was restored from a backup, and what becomes of it."""
