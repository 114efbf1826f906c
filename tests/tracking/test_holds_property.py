"""Any sequence of verbs under limits, pauses, circuits and dependencies: nobody waits for nothing or gets too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text, update

from tests.everybody import GATES, LIMIT, ORGANIZATIONS, Everybody
from tests.holding import limited
from tests.properties import ON_ONE_DATABASE
from tests.tracked import Tracked, check_rows, empty
from tracking import workers
from tracking.admission import job_limits
from tracking.db import Database
from tracking.models import JobRecord, Scope
from tracking.reads.explain import explain
from tracking.schema import jobs as table
from tracking.states import FINISHED, IN_LINE, WAITING, Hold, Status

ORDERED = (*GATES, "limit")  # before the line


class Holds(Everybody):
    """What must be true whatever they do."""

    @rule(data=st.data(), removed=st.booleans())
    def what_explain_says_first_is_what_keeps_a_job(self, data: st.DataObject, removed: bool) -> None:  # noqa: FBT001 - drawn
        """While that is so the job is not sent, and when it is over the job moves.

        What others wait for and is over is seen to before: in the same turn they would come into the line before this
        job, or meet a gate and step aside for it.
        """
        job = self._one(data, *WAITING)
        if job is None:
            return
        self.platform.lift_all_but(job)
        first = self._first_reason(job)
        if job.hold is None:
            self._ask_why_it_does_not_start(job, first)
        elif removed or first == "lifting":
            self._remove(first, job)
            may_pass = first in ORDERED or job_limits.listed_limits(self.connection)
            with self._many_workers(wanted=first in IN_LINE):
                self.platform.turn()
            now = self.tracked.get(job.id)
            has_moved = (now.hold, now.status) != (job.hold, job.status)
            # What a gate has held besides this job may come back into the line before it. Of those before it there
            # that have a limit by now explain does not know whether that has room: one of them may get the slot.
            assert has_moved or (may_pass and self._first_reason(job) == "organization_limit"), first
        elif first not in ("circuit", "dependency"):  # it may be the one that tries, or end with what it depends on
            self.platform.turn()
            assert self.tracked.get(job.id).hold is not None, f"it was sent all the same: {first}"

    def _first_reason(self, job: JobRecord) -> str:
        scope = Scope(job.organization_id, None)
        return explain(self.connection, job.id, scope, self.platform.limits).reasons[0].kind

    def _ask_why_it_does_not_start(self, job: JobRecord, first: str) -> None:
        gated = first in ORDERED
        assert gated is self._gated(job.fence)
        if gated:
            self._remove(first, job)
            gated = self._gated(job.fence)
        self._claim(job.fence)
        assert gated or self.tracked.get(job.id).status is Status.RUNNING

    @contextmanager
    def _many_workers(self, *, wanted: bool) -> Iterator[None]:
        lease = uuid4()
        if wanted:
            workers.beat(self.connection, lease, name="many", pid=1, queues=["default"], concurrency=1000)
        yield
        workers.leave(self.connection, lease)

    def _remove(self, reason: str, job: JobRecord) -> None:
        if reason == "paused":
            for of in (None, job.organization_id):
                self.platform.resume(of, job.job_type)
                self.platform.resume(of)
        elif reason in ("schedule", "backoff"):
            self.tracked.make_due(job)
        elif reason == "circuit":
            self.connection.execute(text("DELETE FROM circuits"))
        elif reason == "limit":
            self.connection.execute(text("DELETE FROM job_limits"))
        elif reason == "organization_limit":
            self.platform.set_limit(0, job.organization_id)  # and the workers are not busy, see above
        elif reason == "dependency":
            for dependency in job.depends_on:
                self._let_succeed(self.tracked.get(dependency))
        else:
            assert reason == "lifting", reason

    def _let_succeed(self, job: JobRecord) -> None:
        """Or end otherwise, if it has."""
        if job.status in FINISHED:
            return
        if job.status is not Status.RUNNING:
            # As when its backoff ends: an attempt is of a dispatch of its own.
            dispatch = job.dispatch + (job.hold is Hold.BACKOFF)
            values = {"hold": None, "due_at": None, "dispatch": dispatch}
            self.connection.execute(update(table).where(table.c.id == job.id).values(values))
            self.connection.execute(text("DELETE FROM circuits"))
            self.connection.execute(text("DELETE FROM pauses"))
            job = self.tracked.start(self.tracked.get(job.id))
        self.tracked.end(job)
        self._count(job, "succeeded", blamed=False)

    @invariant()
    def no_row_lies(self) -> None:
        """The invariants of each row and its history."""
        check_rows(self.tracked)

    @invariant()
    def nobody_has_more_slots_than_the_limit(self) -> None:
        """Unless it was lowered under what ran already."""
        for organization in ORGANIZATIONS:
            limit = self._limit(organization)
            taken = len(self.platform.in_flight(organization))
            if limit == 0 or taken <= limit:
                self.lowered.discard(organization)
            else:
                assert organization in self.lowered, f"{organization} has {taken} of {limit} slots"

    def _limit(self, organization: str) -> int:
        own = text("SELECT concurrency FROM organizations WHERE id = :id")
        limit = self.connection.execute(own, {"id": organization}).scalar()
        return LIMIT if limit is None else int(limit)

    def teardown(self) -> None:
        """When everything is healed and drained, every accepted job has reached an end."""
        for organization in (None, "acme"):
            for job_type in (None, "fragile"):
                self.platform.resume(organization, job_type)
        self.connection.execute(text("DELETE FROM job_limits"))
        self.worker_dies(LIMIT)
        for _ in range(200):
            self.an_hour_passes()
            self.platform.turn()
            running = [job for job in self.tracked.all() if job.status is Status.RUNNING]
            for job in running:
                self.tracked.end(job)
            for job in self.tracked.all():
                if job.status not in FINISHED and job.hold is None:
                    self._claim(job.fence)
            if all(job.status in FINISHED for job in self.tracked.all()):
                break
        rows = self.tracked.all()
        assert Counter(str(job.hold or job.status) for job in rows if job.status not in FINISHED) == {}
        assert not any(job.stopping for job in rows)


def test_any_sequence_of_verbs_gives_each_slot_once_and_leaves_nobody_waiting(pool: Database) -> None:
    """After any sequence of verbs no slot is given twice and no job waits without a reason."""
    with pool.autocommit() as connection:

        class HoldsOfThisTest(Holds):
            def __init__(self) -> None:
                empty(pool)
                super().__init__(limited(pool, Tracked(connection), LIMIT))

        run_state_machine_as_test(
            HoldsOfThisTest, settings=settings(ON_ONE_DATABASE, max_examples=12, stateful_step_count=40)
        )
