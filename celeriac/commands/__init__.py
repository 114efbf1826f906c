"""What `celeriac` can be told to do."""

from celeriac import packages

packages.claim(*packages.NEEDED)
