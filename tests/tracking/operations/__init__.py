"""Tests of bulk operations, each on real PostgreSQL."""
