"""Exports: reports, their rows, and the files that these become."""
