"""What `celeriac` can be told to do."""
