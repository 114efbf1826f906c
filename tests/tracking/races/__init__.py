"""Verbs against verbs on real threads: exactly one winner each time, and the rows tell no lie afterwards."""
