"""For the chaos run to find: a success is accepted of a job that was cancelled meanwhile."""

from __future__ import annotations

from tracking import statements

FENCE = "from_status = 'running'"
assert FENCE in statements.SUCCEED
statements.SUCCEED = statements.SUCCEED.replace(FENCE, "from_status IN ('running', 'cancelled')").replace(
    "SET status = 'succeeded'", "SET stopping = false, status = 'succeeded'"
)
