"""`python -m celeriac.demo`: the same as `celeriac demo`."""

from __future__ import annotations

import runpy
import sys

sys.argv.insert(1, "demo")
runpy.run_module("celeriac", run_name="__main__")
