"""What the rows of a canvas cost: few statements for many of them, and nothing read back that was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event

from tests.tracked import Tracked, new_job
from tests.tracking.test_successors import chain, plan
from tracking import groups, successors
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.models import NewJob


@pytest.fixture
def statements(pool: Database) -> Callable[[], Sequence[str]]:
    """The statements that SQLAlchemy has sent, since the last call."""
    sent: list[str] = []
    event.listen(pool.engine, "before_cursor_execute", lambda *args: sent.append(args[2]))

    def taken() -> Sequence[str]:
        found = list(sent)
        sent.clear()
        return found

    return taken


def test_a_long_chain_takes_few_statements(tracked: Tracked, statements: Callable[[], Sequence[str]]) -> None:
    """A chain of any length is planned and ended in few statements."""
    length = 2 * successors.BATCH + 1
    first = uuid4()
    links: list[NewJob] = []
    for _ in range(length):
        links.append(new_job(follows=links[-1].id if links else first))
    statements()
    head = plan(tracked, *links, id=first)
    assert len(statements()) == 3
    tracked.fail(tracked.start(head))
    statements()
    assert len(successors.end(tracked.connection, head.id)) == length
    assert len(statements()) == 4


def test_a_wide_header_ends_in_few_statements(tracked: Tracked, statements: Callable[[], Sequence[str]]) -> None:
    """The members and the body that wait for a failed job end in few statements."""
    first, width = uuid4(), successors.BATCH + 1
    members = [new_job(follows=first, group_id="g") for _ in range(width)]
    head = plan(tracked, *members, new_job(follows_group="g"), id=first)
    tracked.fail(tracked.start(head))
    statements()
    assert len(successors.end(tracked.connection, head.id)) == width + 1
    assert len(statements()) <= 8


@pytest.fixture
def answered(pool: Database) -> list[tuple[set[str], int]]:
    """The columns and the number of rows of each answer of the database."""
    answers: list[tuple[set[str], int]] = []

    def note(_connection: Any, cursor: Any, *_: Any) -> None:
        answers.append(({each.name for each in cursor.description or ()}, cursor.rowcount))

    event.listen(pool.engine, "after_cursor_execute", note)
    return answers


def test_a_call_reads_back_nothing_of_what_it_sends(tracked: Tracked, answered: list[tuple[set[str], int]]) -> None:
    """A call does not read back the payload and options that it writes."""
    head, second = chain(tracked, 2)
    tracked.end(tracked.start(head))
    rest = {"chain": [{"task": "noop", "args": ["x" * 100]}] * 500}
    answered.clear()
    called = successors.call(
        tracked.connection, new_job(id=second.id, payload={"x": 1}, delivery=rest), UNLIMITED, [head.id]
    )
    assert answered
    assert not any(columns & {"payload", "delivery"} for columns, _ in answered)
    assert called == tracked.get(second.id)


def test_a_member_of_a_large_chord_reads_no_results_but_the_last_one(
    tracked: Tracked, answered: list[tuple[set[str], int]]
) -> None:
    """Only the last member of a chord reads the results of the others."""
    size = 300
    groups.set_size(tracked.connection, "g", size)
    members = [tracked.submit(group_id="g", group_index=place) for place in range(size)]
    for member in members[:-1]:
        tracked.end(tracked.start(member))
    answered.clear()
    assert groups.results(tracked.connection, "g") is None
    assert sum(rows for _, rows in answered) <= 2
    tracked.end(tracked.start(members[-1]))
    assert len(groups.results(tracked.connection, "g") or ()) == size
