"""Tests of the removal of old jobs."""
