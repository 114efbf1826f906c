"""What a refusal of the API means for a command: one line, and the exit status."""

from __future__ import annotations

from celeriac.client.transport import TOO_LATE, ApiError
from tracking.exit_status import Exit
from tracking.exits import Fault, one_line

SERVER_FAULT = 500
HINTS = {
    "token_expired": "`celeriac login` takes a new one",
    "token_invalid": "`celeriac login` takes another one",
    "token_missing": "`celeriac login` takes one",
}


def fault_of_answer(error: Exception) -> Fault:
    """The line and the status for an error of the client."""
    if not isinstance(error, ApiError):
        raise TypeError(f"{error!r} is not of the client")
    # The first one is what the detail says already.
    fields = "".join(f"; {each['field']}: {each['message']}" for each in error.errors[1:])
    hint = HINTS.get(error.code)
    says_more = error.detail.rstrip(".") not in ("", error.title.rstrip("."))
    said = f"{error.title}: {error.detail}" if says_more else error.title
    parts = (said + fields, hint, f"({error.code})")
    return Fault(_status(error), one_line(" ".join(part for part in parts if part)))


def _status(error: ApiError) -> Exit:
    if error.code == TOO_LATE:
        return Exit.TOO_LATE
    if error.is_temporary:
        return Exit.AWAY
    is_fault = error.status is None or error.status >= SERVER_FAULT
    return Exit.FAILED if is_fault else Exit.MISUSED
