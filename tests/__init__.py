"""Tests on real servers, with real workers."""
