"""Tests of the embedded PostgreSQL and Valkey."""
