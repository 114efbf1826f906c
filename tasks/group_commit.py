"""Jobs that several threads submit at the same time share a commit: most of what a submit costs is per commit."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tracking import jobs
from tracking.admission.rule import Limits
from tracking.db import Database, DBAPIError, Outage, PoolTimeoutError, outage
from tracking.jobs.bulk import NewRow
from tracking.models import NewJob, Scope, Submitted
from tracking.tenancy import confined_to

MOST = 64  # jobs in a commit
MOST_CHARACTERS = 2**20  # of their rows
PATIENCE = 0.05  # seconds to wait for one who leads; then it is a database that is slow, and another one leads as well
LONGEST = 30.0  # seconds to wait for one who has taken the job: more than a connection and a statement may take


@dataclass(slots=True, eq=False)
class _Asked:
    """A job whose thread waits to be `called`: it is answered, or has to lead."""

    job: NewJob
    row: NewRow
    called: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    answer: Submitted | None = None  # None when it was called: it has to submit the job by itself
    error: Exception | None = None


class GroupCommit:
    """Accepts jobs; those that come while another one is being accepted are accepted together, in one statement.

    This is flat combining. The first thread leads: it submits its job by itself, without delay. When it is done, the
    first of those that came meanwhile leads: it submits the jobs of all of them, and so on. What the database does not
    simply accept together with others is judged by itself, in its own thread.
    """

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits
        self._lock = threading.Lock()
        self._waiting: deque[_Asked] = deque()
        self._leaders = 0

    def submit(self, job: NewJob, scope: Scope) -> Submitted:
        """Accept a job. Raises what `jobs.submit` does, and the errors of the database."""
        if job.depends_on or job.actor is not None:
            return self._alone(job, scope)
        if self._leads_at_once():
            try:
                return self._alone(job, scope)
            finally:
                self._pass_on()
        asked = _Asked(job, NewRow.of(job))
        self._wait(asked)
        if asked.leads:
            self._lead(asked)
        if asked.error is not None:
            raise asked.error
        return asked.answer or self._alone(job, scope)

    def _alone(self, job: NewJob, scope: Scope) -> Submitted:
        with self._database.autocommit() as connection:
            return jobs.submit(connection, job, self._limits, scope=scope)

    def _leads_at_once(self) -> bool:
        with self._lock:
            if self._leaders:
                return False
            self._leaders = 1
            return True

    def _wait(self, asked: _Asked) -> None:
        """Wait until the job is answered, or its thread leads. Raises PoolTimeoutError after LONGEST seconds."""
        with self._lock:
            if not self._leaders:
                self._leaders, asked.leads = 1, True
                return
            self._waiting.append(asked)
        if asked.called.wait(PATIENCE):
            return
        with self._lock:
            if asked in self._waiting:
                self._waiting.remove(asked)
                self._leaders, asked.leads = self._leaders + 1, True
                return
        if not asked.called.wait(LONGEST):
            raise PoolTimeoutError("those who submit at the same time do not come to an end")

    def _lead(self, asked: _Asked) -> None:
        """Submit this job and those that wait."""
        try:
            together = [asked, *self._take(asked.row.size)]
            try:
                if len(together) > 1:
                    self._submit(together)
            finally:
                for each in together:
                    each.called.set()
        finally:
            self._pass_on()

    def _take(self, size: int) -> list[_Asked]:
        taken: list[_Asked] = []
        with self._lock:
            while self._waiting and len(taken) < MOST - 1 and size < MOST_CHARACTERS:
                taken.append(self._waiting.popleft())
                size += taken[-1].row.size
        return taken

    def _submit(self, together: Sequence[_Asked]) -> None:
        # The same keys are always locked in the same order, so that two that wait for each other cannot be.
        together = sorted(together, key=lambda each: each.job.idempotency_key or "")
        try:
            # Whoever leads has those of other organizations with it. What is written is its owner's; nothing is read.
            with confined_to(None), self._database.autocommit() as connection:
                answers = jobs.submit_most(connection, [each.row for each in together], self._limits)
        except (DBAPIError, PoolTimeoutError) as error:
            if isinstance(error, PoolTimeoutError) or outage(error) not in (None, Outage.BUSY):
                for each in together:
                    each.error = error
        else:
            for each, answer in zip(together, answers, strict=True):
                each.answer = answer

    def _pass_on(self) -> None:
        """Let the first of those that wait lead; when nobody waits, nobody leads."""
        with self._lock:
            if self._waiting:
                following = self._waiting.popleft()
                following.leads = True
                following.called.set()
            else:
                self._leaders -= 1
