"""Tests of workflows, each on real PostgreSQL."""
