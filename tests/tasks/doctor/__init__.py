"""Mirrors tasks/doctor."""
