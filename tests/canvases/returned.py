"""What a handler returns, and what it has sent."""


# The stubs know one kind of result.
# mypy: disable-error-code="attr-defined,union-attr,call-overload,untyped-decorator"

from __future__ import annotations

from typing import Any

from celery import chain, chord, group

from tests.canvases.table import WITHIN, canvas, raised
from tests.canvases.tasks import add, echo, name, note_error, quiet, refuse, start, start_and_refuse, total


@canvas
def a_handler_that_returns_a_result() -> Any:
    (identifier, parent), children = start.delay(5).get(timeout=WITHIN)
    return [len(identifier), parent, children]


@canvas
def a_result_that_is_ignored() -> Any:
    result = quiet.delay()
    return [result.ignored, result.get(timeout=WITHIN)]


@canvas
def children() -> Any:
    result = start.delay(5)
    result.get(timeout=WITHIN)
    return [child.get(timeout=WITHIN) for child in result.children]


@canvas
def children_of_a_chain() -> Any:
    result = chain(echo.s(1), add.s(2)).delay()
    result.get(timeout=WITHIN)
    result.parent.get(timeout=WITHIN)  # plain Celery sends the next task before it stores the result
    return [child.id == result.id for child in result.parent.children]


@canvas
def children_of_a_task_that_fails() -> Any:
    result = start_and_refuse.delay(5)
    return [raised(result), [child.get(timeout=WITHIN) for child in result.children]]


@canvas
def children_of_a_body_whose_header_fails() -> Any:
    body = chord([echo.s(1), refuse.s()], total.s().on_error(name.s())).delay()
    raised(echo.AsyncResult(body.id))
    return [[each.get(timeout=WITHIN) == body.id for each in sent.children] for sent in body.children]


@canvas
def children_of_a_body_without_errbacks_that_are_tasks() -> Any:
    result = chord([echo.s(1), refuse.s()], total.s().on_error(note_error.s(path="/dev/null"))).delay()
    raised(echo.AsyncResult(result.id))
    return result.children


@canvas
def the_group_and_the_parent_that_are_kept_with_a_result() -> Any:
    sent = chain(echo.s(1), group(add.s(1), add.s(2))).delay()
    sent.get(timeout=WITHIN)
    kept = [each.backend.get_task_meta(each.id) for each in sent.results]
    return [[meta["group_id"] == sent.id, meta["parent_id"] == sent.parent.id] for meta in kept]
