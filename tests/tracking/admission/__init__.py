"""Tests of admission: which waiting job goes next."""
