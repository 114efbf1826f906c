"""The leader's removal of what is old: a batch at a time, between its other duties.

These are no jobs: a job a minute for each would be what they remove. People see them beside their schedules.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import structlog

from tasks.leader.duties import Duty
from tasks.platform import Platform
from tasks.refusals import reason_of
from tracking import audit, clean_ups, dead_letters, events, retention
from tracking.db import SQLAlchemyError
from tracking.schedules import outcomes
from tracking.workflows import concluding

log = structlog.get_logger(__name__)

KEEP_LETTERS = timedelta(days=90)  # as long as failed jobs: they are the same kind of trouble
ENTRIES = 2000  # of the audit, outcomes of schedules, or events, which go alone
WORKFLOWS = 100  # with all their rows
FIRST = 200  # jobs of the first batch
MOST = 5000  # jobs of a batch; with what of their history goes at once they must go within the statement timeout
# Seconds that a batch may take: while they take less, they grow.
QUICK, SLOW = 0.1, 0.4
LEAST_REST = 0.02  # seconds between two batches of jobs
REST = 0.25  # of the time that the last batch took


class Pruning:
    """What is known from one turn to the next: how much to remove at once."""

    INTERVAL = 60.0  # seconds between two looks for old jobs

    def __init__(self, platform: Platform, most: int = MOST) -> None:
        self._database = platform.database
        self._policy = retention.Policy.configured(platform.settings)
        self._keep_audit = timedelta(days=platform.settings.retention_audit_days)
        self._most = self._may_grow_to = most
        self._batch = min(FIRST, most)
        self.is_up_to_date = False  # no job is left that is old enough to go
        self._removed: Counter[Callable[[], bool]] = Counter()
        self._began: dict[str, float] = {}

    def duties(self, breath: float) -> list[Duty]:
        """All of them; `breath`: seconds between two batches of what is less than jobs."""
        works = {
            "retention of the audit": self.audit,
            "retention of letters": self.letters,
            "retention of outcomes": self.outcomes,
            "retention of workflows": self.workflows,
            "retention of events": self.events,
        }
        jobs = Duty("retention", self.INTERVAL, self._shown("retention", self.jobs), LEAST_REST, REST)
        return [jobs, *(Duty(name, self.INTERVAL, self._shown(name, work), breath) for name, work in works.items())]

    def jobs(self) -> bool:
        """Remove one batch of old jobs; whether there are more. After an error half as many are tried next time."""
        began = time.monotonic()
        try:
            with self._database.begin() as connection:
                pruned = retention.prune(connection, self._policy, limit=self._batch)
        except SQLAlchemyError:  # a long history may not go in time: fewer jobs will
            self._batch = self._may_grow_to = max(1, self._batch // 2)
            raise
        if pruned.total or pruned.groups:
            log.info("retention.pruned", jobs=pruned.total, history=pruned.history, groups=pruned.groups)
        self.is_up_to_date = not pruned.more
        self._adapt(time.monotonic() - began)
        self._removed[self.jobs] += pruned.total
        return pruned.more

    def _adapt(self, took: float) -> None:
        if self.is_up_to_date:
            self._may_grow_to = self._most
            self._batch = min(FIRST, self._most)
        elif took < QUICK:
            self._batch = min(self._may_grow_to, self._batch * 2)
        elif took > SLOW:
            self._batch = max(1, self._batch // 2)

    def audit(self) -> bool:
        """Remove one batch of old entries of the audit; whether there are more."""
        with self._database.begin() as connection:
            removed = audit.forget(connection, self._keep_audit, ENTRIES)
        if removed:
            log.info("retention.audit_pruned", entries=removed)
        self._removed[self.audit] += removed
        return removed == ENTRIES

    def letters(self) -> bool:
        """Remove old messages that were set aside."""
        with self._database.begin() as connection:
            removed = dead_letters.forget(connection, KEEP_LETTERS)
        if removed:
            log.info("retention.letters_pruned", letters=removed)
        self._removed[self.letters] += removed
        return False

    def outcomes(self) -> bool:
        """Remove one batch of what became of due times, once no job of theirs is kept; whether there are more."""
        with self._database.begin() as connection:
            removed = outcomes.forget(connection, self._policy.longest, ENTRIES)
        self._removed[self.outcomes] += removed
        return removed == ENTRIES

    def events(self) -> bool:
        """Remove one batch of events, which are kept as long as any job is; whether there are more."""
        with self._database.begin() as connection:
            removed = events.forget(connection, self._policy.longest, ENTRIES)
        self._removed[self.events] += removed
        return removed == ENTRIES

    def workflows(self) -> bool:
        """Remove one batch of workflows of which no job is kept; whether there are more."""
        with self._database.begin() as connection:
            removed = concluding.forget(connection, self._policy.longest, WORKFLOWS)
        self._removed[self.workflows] += removed
        return removed == WORKFLOWS

    def _shown(self, name: str, work: Callable[[], bool]) -> Callable[[], bool]:
        """The work, with how it went written down when it is done or has failed."""

        def fulfil() -> bool:
            self._began.setdefault(name, time.monotonic())
            try:
                more = work()
            except Exception as error:
                with suppress(SQLAlchemyError):  # the database is away: the log has it
                    self._note(name, work, reason_of(error).message)
                raise
            if not more:
                self._note(name, work, None)
            return more

        return fulfil

    def _note(self, name: str, work: Callable[[], bool], error: str | None) -> None:
        took, removed = timedelta(seconds=time.monotonic() - self._began.pop(name)), self._removed.pop(work, 0)
        with self._database.autocommit() as connection:
            clean_ups.note(connection, name, self.INTERVAL, took, removed=None if error else removed, error=error)
