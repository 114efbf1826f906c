"""Tests of the commands of `celeriac`."""
