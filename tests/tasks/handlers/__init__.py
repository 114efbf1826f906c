"""Tests of the handlers that come with the platform, called as plain functions."""
