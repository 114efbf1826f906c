"""A whole platform on one machine: its servers and parts, started, watched and ended."""
