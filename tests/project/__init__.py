"""Tests of the project itself: its files, its documentation and the tools of its tests."""
