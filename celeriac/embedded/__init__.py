"""A whole platform on one machine: its servers and parts, started, watched and ended."""

from celeriac import packages

packages.claim(*packages.NEEDED)
