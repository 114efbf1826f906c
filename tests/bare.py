"""Programs that have Celery and not the platform."""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import UUID, uuid4

from tests.live import LivePlatform, eventually
from tracking import dead_letters
from tracking.dead_letters import DeadLetter
from tracking.identifiers import job_id_of
from tracking.models import JobRecord
from tracking.reads import lists

BARE = """
import json, os
from celery import Celery, chain, chord, group
bare = Celery(broker=os.environ["BROKER_URL"], backend="cache+memory://", set_as_current=False)
bare.conf.update(task_default_queue="default", task_queue_max_priority=9)
given = json.loads(stdin)
def add(*args, **options): return bare.signature("add", args, **options)
"""
SEND = "bare.send_task({}, task_id=given)"

CALLS = {
    "arguments": SEND.format("'add', (1, 2)"),
    "arguments by name": SEND.format("'add', kwargs={'x': 1, 'y': 2}"),
    "message protocol 1": "bare.conf.task_protocol = 1\n" + SEND.format("'add', (1, 2)"),
    "a time in the past": SEND.format("'add', (1, 2), eta='2020-01-01T00:00:00'"),
    "no countdown": SEND.format("'add', (1, 2), countdown=0"),
    "an expiry": SEND.format("'add', (1, 2), expires=3600"),
    "limits, headers, a priority and a shadow": SEND.format(
        "'add', (1, 2), time_limit=60, soft_time_limit=50, headers={'trace': 'x'}, priority=7, shadow='sum'"
    ),
    "stamps": "signature = add(1, 2)\nsignature.stamp(colour='red')\nsignature.apply_async(task_id=given)",
    "a chain": "(add(1, 2).set(task_id=given) | add(4)).apply_async()",
    "a chain, protocol 1": "bare.conf.task_protocol = 1\n(add(1, 2).set(task_id=given) | add(4)).apply_async()",
    "a link": "add(1, 2).apply_async(task_id=given, link=add(4))",
    "a group": "group(add(1, 2).set(task_id=given), add(3, 4)).apply_async()",
}
IDS: dict[str, Callable[[UUID], str]] = {
    "a UUID": str,
    "hexadecimal digits": lambda job_id: job_id.hex,
    "text": "invoice 2024/7 \N{SNOWMAN} {}".format,
}


def job_of(platform: LivePlatform, task_id: str) -> JobRecord | None:
    """The job of a message; None while there is none."""
    with platform.database.autocommit() as connection:
        return lists.find(connection, job_id_of(task_id))


def adopted(platform: LivePlatform, task_id: str) -> JobRecord:
    """The job of a message, once it is there."""
    found: JobRecord = eventually(lambda: job_of(platform, task_id), what="the adoption")
    return found


def letters_of(platform: LivePlatform, task_id: str) -> list[DeadLetter]:
    """The dead letters of a message."""
    with platform.database.autocommit() as connection:
        return [letter for letter in dead_letters.newest(connection, 1000) if letter.task_id == task_id]


def letter_of(platform: LivePlatform, task_id: str) -> DeadLetter:
    """The one dead letter of a message, once it is there."""
    eventually(lambda: letters_of(platform, task_id), what="the dead letter")
    [letter] = letters_of(platform, task_id)
    return letter


def send_bare(platform: LivePlatform, call: str, task_id: str | None = None) -> str:
    """Send it under this id, or a new one; returns the id."""
    task_id = task_id or str(uuid4())
    platform.run(BARE + call, json.dumps(task_id))
    return task_id
