"""A thin layer of HTTP. Knows tasks and tracking."""
