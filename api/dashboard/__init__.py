"""The dashboard: pages for people, drawn by the server from the reads and verbs of the API, with the same rights."""
