"""Slots that a batch frees are given to the next in line in the batch's own transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from tasks.broker.admitting import Admission
from tasks.failures import failures
from tracking import jobs
from tracking.admission.line import Ahead
from tracking.db import Connection, Database, DBAPIError, is_away
from tracking.models import Attempt, Claim, Fence, JobRecord, Settled

Item = TypeVar("Item")


class _Unfilled(Exception):
    """The database refuses what the batch would let through."""


class Beginner(Protocol):
    """Which jobs begin at once where their slots have become free."""

    def ahead(self) -> Ahead:
        """How many there may be."""

    def claims(self, records: Sequence[JobRecord]) -> list[tuple[JobRecord, Claim]]:
        """Those of these that do, and how they are to be claimed."""


class Nobody:
    """Begins none of them: each gets its message."""

    def ahead(self) -> Ahead:
        return Ahead()

    def claims(self, _records: Sequence[JobRecord]) -> list[tuple[JobRecord, Claim]]:
        return []


@dataclass(slots=True)
class Passed:
    """What has become of the slots, besides what this worker is told: jobs to send, and lines to look at again.

    `here`: jobs that share the workers with no other organization; with an Attempt when they are claimed already.
    """

    here: list[tuple[JobRecord, Attempt | None]] = field(default_factory=list)
    others: list[JobRecord] = field(default_factory=list)
    left: set[str] = field(default_factory=set)

    def add(self, more: Passed) -> None:
        self.here.extend(more.here)
        self.others.extend(more.others)
        self.left.update(more.left)


class Refilling(Generic[Item]):
    """A verb for many jobs, and the admission of those that wait for what it frees.

    Those of these that begin at once are claimed as well.

    A transaction of several statements costs more round trips than one that is a single statement. So it is begun for
    a verb only after that has met a line the last time.
    """

    def __init__(
        self,
        database: Database,
        admission: Admission,
        verb: Callable[[Connection, Sequence[Item]], list[Any]],
        beginner: Beginner,
    ) -> None:
        self._database = database
        self._admission = admission
        self._verb = verb
        self._beginner = beginner
        self._meets_lines = False
        self._passed = Passed()
        self._doubtful: list[tuple[JobRecord, Claim]] = []  # their claims may be committed, without an answer

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """The verb's answers. Raises what the verb does; what the admission does is logged, and left to another one."""
        self.ask_again()
        if self._meets_lines:
            try:
                return self._ask_and_fill(items)
            except _Unfilled:
                pass  # and with it the verb is undone
        with self._database.autocommit() as connection:
            answers = self._verb(connection, items)
        freed = _freed(answers)
        if freed and not self._meets_lines:
            self._meets_lines = True
            self._fill_apart(freed)
        else:
            self._passed.left.update(freed)
        return answers

    def ask_again(self) -> None:
        """A commit whose answer was lost may have been one all the same: the same claims are granted once more.

        Raises DBAPIError in an outage.
        """
        if self._doubtful:
            with self._database.autocommit() as connection:
                begun = self._claimed(connection)
            self._keep(Passed(here=begun))

    @property
    def is_in_doubt(self) -> bool:
        """Whether that is to be asked."""
        return bool(self._doubtful)

    @property
    def held(self) -> list[Fence]:
        """What is claimed here, or may be, and was not taken yet. In any thread."""
        claimed = [attempt.fence for _, attempt in tuple(self._passed.here) if attempt is not None]
        return [*claimed, *(claim.fence for _, claim in tuple(self._doubtful))]

    def take(self) -> Passed:
        """What was let through since the last call."""
        passed, self._passed = self._passed, Passed()
        return passed

    def _ask_and_fill(self, items: Sequence[Item]) -> list[Any]:
        """Raises _Unfilled when the admission has failed."""
        passed = Passed()
        with self._database.begin() as connection:
            answers = self._verb(connection, items)
            freed = _freed(answers)
            if freed:
                passed = self._fill(connection, freed)
        self._meets_lines = bool(freed)
        self._keep(passed)
        return answers

    def _fill_apart(self, freed: Mapping[str, int]) -> None:
        try:
            with self._database.begin() as connection:
                passed = self._fill(connection, freed)
        except (_Unfilled, DBAPIError):
            self._passed.left.update(freed)
        else:
            self._keep(passed)

    def _fill(self, connection: Connection, freed: Mapping[str, int]) -> Passed:
        try:
            filled = self._admission.filled(connection, freed, self._beginner.ahead())
            self._doubtful = self._beginner.claims(filled.alone)
            passed = Passed(others=filled.others, left=filled.left)
            begun = {record.id for record, _ in self._doubtful}
            passed.here = [(record, None) for record in filled.alone if record.id not in begun]
            if self._doubtful:
                passed.here += self._claimed(connection)
        except DBAPIError as error:
            if is_away(error):
                raise
            self._doubtful = []
            failures.note("lines.failed", error)
            raise _Unfilled from error
        failures.clear("lines.failed")
        return passed

    def _claimed(self, connection: Connection) -> list[tuple[JobRecord, Attempt | None]]:
        """Those whose claims are granted; the others have met something else, which is in their rows."""
        answers = jobs.claim(connection, [claim for _, claim in self._doubtful], waits=False)
        pairs = zip(self._doubtful, answers, strict=True)
        return [(record, answer) for (record, _), answer in pairs if isinstance(answer, Attempt)]

    def _keep(self, passed: Passed) -> None:
        self._passed.add(passed)
        self._doubtful = []


def _freed(answers: Sequence[Any]) -> Mapping[str, int]:
    """How many slots, or places in the order of arrival, organizations with jobs in line have left."""
    return Counter(
        answer.organization_id if isinstance(answer, Settled) else answer.owner.organization_id
        for answer in answers
        if (isinstance(answer, Settled) and answer.has_line) or (isinstance(answer, Attempt) and answer.leaves_place)
    )
