"""Requests to addresses that a user named."""
