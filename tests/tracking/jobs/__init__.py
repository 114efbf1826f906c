"""Tests of the verbs, each on real PostgreSQL."""
