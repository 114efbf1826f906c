"""Tests of the package celeriac: the command, the embedded servers, the client and the demo."""
