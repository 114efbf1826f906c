"""Tests of the reasons for where a job is."""
