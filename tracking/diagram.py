"""`python -m tracking.diagram`: docs/states.md, drawn from the state machine itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tracking.states import FINISHED, MOVES, WAITING, Event, Status, can_cancel, sources

DOCUMENT = Path(__file__).parent.parent / "docs" / "states.md"

FIRST_STATUS = Status.QUEUED

TEXT = """\
# The states of a job

<!-- Written by `python -m tracking.diagram` from tracking/states.py: change it there. -->

A job is in exactly one of these states, and goes from one to another only along the arrows. Every statement that moves
a job is guarded by the states that it may start from, and the tests try each of them on each state: what is not drawn
here finds no row to change, and the caller learns that the world has moved on.

```mermaid
{diagram}
```

## States

{states}

`retry` is limited by `maxRetries`, unless it is forced, and waits until the body of a cancelled job is over.
A waiting job may be held (`schedule`, `backoff`, …): it is not sent to a worker before the hold is lifted.

## Moves

{moves}

`event` is the name of the row that the move leaves in the job's history.
"""


def document() -> str:
    """The text of docs/states.md."""
    return TEXT.format(diagram=_diagram(), states=_states(), moves=_moves())


def main() -> None:
    """Write docs/states.md."""
    DOCUMENT.write_text(document(), encoding="utf-8")


def _diagram() -> str:
    arrows = [f"{move.source} --> {move.target}: {move.cause}" for move in MOVES]
    ends = [f"{status} --> [*]" for status in FINISHED]
    return "\n    ".join(["stateDiagram-v2", f"[*] --> {FIRST_STATUS}: submit", *arrows, *ends])


def _states() -> str:
    header = ("state", "kind", "can be cancelled", "can be retried")
    return _table(header, ((f"`{status}`", _kind(status), *_what_people_may(status)) for status in Status))


def _kind(status: Status) -> str:
    if status in FINISHED:
        return "finished"
    return "waiting" if status in WAITING else "executing"


def _what_people_may(status: Status) -> tuple[str, str]:
    return _yes(can_cancel(status)), _yes(status in sources(Event.RETRIED))


def _moves() -> str:
    rows = ((f"`{move.source}`", f"`{move.target}`", f"`{move.event}`", move.cause) for move in MOVES)
    return _table(("from", "to", "event", "when"), rows)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _yes(fact: bool) -> str:  # noqa: FBT001 - a word for a fact
    return "yes" if fact else "no"


if __name__ == "__main__":
    main()
