"""The endurance run: the platform under an even load for an hour, and whether anything of it grows."""
