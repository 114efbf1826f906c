"""Breaks what the platform stands on while it works, then checks that every promise held: `make chaos`."""
