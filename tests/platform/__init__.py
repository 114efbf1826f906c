"""Tests of a whole platform: real workers, both brokers, and the faults that they must survive."""
