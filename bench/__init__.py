"""Measures Celeriac against bare Celery on the machine that runs it: `make bench`."""
