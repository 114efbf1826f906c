"""The main process of a worker."""
