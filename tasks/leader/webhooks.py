"""From what happens to deliveries: the leader follows the history, and makes a job for each webhook that wants it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import structlog

from tasks.deliveries import DELIVERY, new_delivery, submit
from tasks.platform import Platform
from tasks.webhooks.messages import MOST_OF_RESULT, event_of, message, message_of
from tracking import webhooks
from tracking.crashpoints import TOLD, crash_point
from tracking.db import Connection
from tracking.models import JsonObject, NewJob
from tracking.reads.tail import BATCH, Happening, Occurrence, SequenceReset, Tail
from tracking.webhooks import DELIVERING

log = structlog.get_logger(__name__)


class Telling:
    """Where the leader is in the history.

    Another leader goes on where this one has written that it was; what it repeats is known by its key.
    """

    INTERVAL = 0.5  # seconds between two looks

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._tail: Tail | None = None

    def turn(self) -> bool:
        """Make the deliveries of what has happened since; whether there may be more."""
        with self._platform.database.autocommit() as connection:
            told_until = webhooks.position(connection)
            if told_until is None:
                self._tail = None
                return False
            if self._tail is None or self._tail.position != told_until:
                self._tail = Tail(told_until)
            try:
                happenings = self._tail.poll(connection)
            except SequenceReset:
                log.warning("webhooks.history_reset", position=told_until)
                self._tail = None
                webhooks.restart(connection)
                return False
            new = list(_deliveries(self._platform, connection, happenings))
        submit(self._platform, new)
        if new:
            crash_point(TOLD)
        reached = self._tail.position
        if reached is not None and reached != told_until:
            with self._platform.database.autocommit() as connection:
                webhooks.advance(connection, reached)
        return len(happenings) >= BATCH


def close_circuits(platform: Platform) -> None:
    """Let fail what waits for the address of a webhook that was removed or disabled: one at a time would take weeks."""
    with platform.database.autocommit() as connection:
        closed = webhooks.close_circuits(connection, DELIVERY)
    if closed:
        log.info("webhooks.circuits_closed", circuits=closed)


def _deliveries(
    platform: Platform, connection: Connection, happenings: Sequence[Happening | Occurrence]
) -> list[NewJob]:
    named = {each.id: name for each in happenings if (name := event_of(each)) is not None}
    organizations = {
        each.organization_id
        for each in happenings
        if each.id in named and not each.organization_id.startswith(DELIVERING)
    }
    if not organizations:
        return []
    wanted = [
        (webhook, each)
        for webhook in webhooks.listening(connection, organizations)
        for each in happenings
        if each.organization_id == webhook.organization_id
        and each.id in named
        and webhook.wanted.wants(named[each.id], each.job_type, each.project_id)
    ]
    told = _messages(connection, [each for _, each in wanted])
    return [
        new_delivery(platform, webhook, str(_subject(each)), named[each.id], told[each.id], key=each.id)
        for webhook, each in sorted(wanted, key=lambda pair: pair[1].id)
        if each.id in told  # else it was removed since
    ]


def _messages(connection: Connection, happenings: Sequence[Happening | Occurrence]) -> dict[int, JsonObject]:
    """What is told of each of them, by their ids."""
    told: dict[int, JsonObject] = {each.id: message_of(each) for each in happenings if isinstance(each, Occurrence)}
    of_jobs = {each.id: each for each in happenings if isinstance(each, Happening)}
    happened = webhooks.happened(connection, sorted(of_jobs), most_bytes=MOST_OF_RESULT)
    return told | {number: message(of_jobs[number], known) for number, known in happened.items()}


def _subject(happening: Happening | Occurrence) -> UUID:
    return happening.subject_id if isinstance(happening, Occurrence) else happening.job_id
