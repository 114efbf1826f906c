"""For the chaos run to find: a success is accepted of a job that was cancelled meanwhile."""

from __future__ import annotations

from importlib import import_module
from typing import Any

settle: Any = import_module("tracking.jobs.settle")  # the package has a verb of this name

FENCE = "from_status IN ('running')"
assert FENCE in settle.SUCCEED
settle.SUCCEED = settle.SUCCEED.replace(FENCE, "from_status IN ('running', 'cancelled')").replace(
    "SET status = 'succeeded'", "SET stopping = false, status = 'succeeded'"
)
