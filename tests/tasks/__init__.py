"""Tests of the package tasks that need no worker."""
