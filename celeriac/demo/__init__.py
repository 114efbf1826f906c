"""`make demo`: real jobs and an export of them on a platform that exists only for that, checked against the API."""

from celeriac import packages

packages.claim(*packages.NEEDED)
