"""The API, asked over HTTP by real clients of a real server."""
