"""Stamps: which tasks of a canvas bear them, and what their bodies see."""


# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator,misc,no-untyped-call"

from __future__ import annotations

from typing import Any

from celery import chain, chord, group
from celery.canvas import StampingVisitor

from tests.canvases.table import WITHIN, canvas, noted
from tests.canvases.tasks import note_stamps, refuse, replace, retry_for_stamps, stamps


class Marks(StampingVisitor):
    """Stamps each task with the same values."""

    def __init__(self, **marks: Any) -> None:
        self.marks = marks

    def on_signature(self, sig: Any, **_: Any) -> dict[str, Any]:  # noqa: ARG002 - Celery's signature
        return self.marks


def stamped(sent: Any, **marks: Any) -> Any:
    """A canvas with these stamps."""
    sent.stamp(Marks(**marks))
    return sent


@canvas
def the_stamps_of_a_task() -> Any:
    return stamped(stamps.si(), by="a", many=[1, 2]).delay().get(timeout=WITHIN)


@canvas
def the_stamps_of_a_chain() -> Any:
    return stamped(chain(stamps.si(), stamps.si(), stamps.si()), by="a").delay().get(timeout=WITHIN)


@canvas
def the_stamps_of_a_group() -> Any:
    return stamped(group(stamps.si(), chain(stamps.si(), stamps.si())), by="a").delay().get(timeout=WITHIN)


@canvas
def the_stamps_of_the_body_of_a_chord() -> Any:
    return stamped(chord([stamps.si(), stamps.si()], stamps.si()), by="a").delay().get(timeout=WITHIN)


@canvas
def the_stamps_of_a_link() -> Any:
    def ask(call: Any) -> Any:
        sent = stamped(stamps.si(), by="a")
        sent.link(call(note_stamps, "link"))
        return stamped(sent, by="b").delay()

    return noted(ask, 1)


@canvas
def the_stamps_of_an_errback() -> Any:
    def ask(call: Any) -> Any:
        sent = stamped(refuse.si(), by="a")
        sent.link_error(call(note_stamps, "errback"))
        return stamped(sent, by="b").delay()

    return noted(ask, 1)


@canvas
def the_stamps_of_a_replacement() -> Any:
    return stamped(replace.si(stamped(stamps.si(), by="b", of="replacement")), by="a").delay().get(timeout=WITHIN)


@canvas
def the_stamps_of_a_task_that_is_tried_again() -> Any:
    return stamped(retry_for_stamps.si(), by="a").delay().get(timeout=WITHIN)
