"""Tests of the package tracking: verbs, admission and reads on a real PostgreSQL."""
