"""Tests of the package bench: the measurement and the chaos run."""
