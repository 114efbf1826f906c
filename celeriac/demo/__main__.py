"""`python -m celeriac.demo`: the same as `celeriac demo`."""

from __future__ import annotations

import sys

from celeriac.__main__ import main

sys.argv.insert(1, "demo")
main()
