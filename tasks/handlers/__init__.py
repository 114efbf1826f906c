"""The platform's own job types."""
