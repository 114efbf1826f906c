"""Messages of programs that have Celery and not the platform, set aside as adopting them is not wished for here."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.bare import CALLS, IDS, SEND, letter_of, send_bare
from tests.live import LivePlatform


@pytest.mark.parametrize("what", CALLS)
def test_nothing_is_adopted_unless_that_is_wished_for(running: LivePlatform, what: str) -> None:
    """Without CELERIAC_ADOPT a foreign message is a dead letter that says how to adopt it."""
    task_id = send_bare(running, CALLS[what])
    letter = letter_of(running, task_id)
    assert "with CELERIAC_ADOPT=true such messages become jobs" in letter.reason
    assert letter.task_name is not None
    assert letter.body is not None
    assert letter.size == len(letter.body)
    assert running.jobs() == []


@pytest.mark.parametrize("kind", IDS)
def test_a_letter_has_the_id_that_the_sender_knows(running: LivePlatform, kind: str) -> None:
    """A dead letter has the id that its sender gave the message."""
    task_id = IDS[kind](uuid4())
    send_bare(running, SEND.format("'add', (1, 2), countdown=3600"), task_id)
    assert letter_of(running, task_id).task_name == "add"
