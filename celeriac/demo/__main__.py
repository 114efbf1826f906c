"""`python -m celeriac.demo`: the same as `celeriac demo`."""

from __future__ import annotations

import sys

from celeriac.cli import main

sys.argv.insert(1, "demo")
main()
