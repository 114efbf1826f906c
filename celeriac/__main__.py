"""`python -m celeriac`: the same as the `celeriac` command."""

from __future__ import annotations

from celeriac.cli import main

main()
