"""Proves on the live platform that what it relies on works: each check is a finding with a reason and a mend."""
