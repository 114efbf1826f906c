"""Any sequence of verbs: the rows are where a model of the contract says, and tell no lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.properties import ON_ONE_DATABASE
from tests.tracked import ACME, HOUR, KINDS, LEASE_TIMEOUT, Tracked, accepted, check_job, empty, new_job, reap, wish
from tracking import jobs, successors
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.errors import IdempotencyConflict, IllegalMove
from tracking.models import Attempt, Claim, Fence, JobRecord, Outcome, Progress, Refusal
from tracking.states import ACTIVE, FINISHED, WAITING, Hold, OutcomeKind, Status, can_cancel, can_retry

MAX_LOSSES = 2
FENCES = ["both", "dispatch", "old attempt", "old dispatch"]


@dataclass
class Expected:
    """What the contract says of one job after the verbs so far."""

    id: UUID
    dispatch: int
    max_retries: int
    hold: Hold | None
    status: Status = Status.QUEUED
    stopping: bool = False
    attempt: int = 0
    retry_count: int = 0
    losses: int = 0
    progress: int = 0
    claim: Claim | None = None
    renewed: bool = False  # a new dispatch is expected in the row

    @property
    def fence(self) -> Fence:
        return Fence(self.id, self.dispatch)

    @property
    def older(self) -> Fence:
        """The one before it, or one that there never was."""
        return Fence(self.id, self.dispatch - 1)

    def end(self, kind: OutcomeKind) -> None:
        lost_once_more = self.losses + (kind in ("lost", "returned"))
        match kind:
            case "succeeded" | "failed" | "cancelled":
                self.status = Status(kind)
            case "retry":
                self.status, self.hold = Status.RETRYING, Hold.BACKOFF
                self.retry_count += 1
            case "lost" | "returned" if lost_once_more == MAX_LOSSES:
                self.status = Status.FAILED
            case _:
                self.status = Status.QUEUED
        self.renewed = self.status is Status.QUEUED
        self.losses = lost_once_more
        if kind == "replaced":
            self.retry_count = self.losses = 0
        self.progress = 100 if kind == "succeeded" else self.progress

    def start_over(self) -> None:
        self.status, self.progress, self.losses = Status.QUEUED, 0, 0
        self.retry_count += 1
        self.renewed = True


class Jobs(RuleBasedStateMachine):
    """Everybody at once: submitters, workers, people, upkeep; the clock moves when a rule says so."""

    known = Bundle("known")

    def __init__(self, tracked: Tracked) -> None:
        super().__init__()
        self.tracked = tracked
        self.jobs: dict[UUID, Expected] = {}
        self.keys: dict[str, tuple[str, UUID]] = {}
        self.lease = tracked.register_worker()

    @rule(target=known, held=st.booleans(), max_retries=st.integers(0, 2))
    def submit(self, held: bool, max_retries: int) -> Expected:  # noqa: FBT001 - drawn
        """A job of its own."""
        job = self.tracked.submit(max_retries=max_retries, delay=HOUR if held else None)
        return self._accepted(job)

    @rule(target=known, key=st.sampled_from("ab"), request=st.sampled_from("xy"))
    def submit_with_a_key(self, key: str, request: str) -> Expected | MultipleResults[Expected]:
        """A job that may have been submitted before."""
        new = new_job(idempotency_key=key, request_hash=request)
        known_request, known_id = self.keys.get(key, (request, new.id))
        try:
            submitted = jobs.submit(self.tracked.connection, new, UNLIMITED)
        except IdempotencyConflict:
            assert known_request != request
            return multiple()
        assert known_request == request
        assert (submitted.job.id, submitted.created) == (known_id, known_id == new.id)
        self.keys[key] = (request, known_id)
        return self._accepted(submitted.job) if submitted.created else multiple()

    def _accepted(self, job: JobRecord) -> Expected:
        self.jobs[job.id] = Expected(job.id, job.dispatch, job.max_retries, job.hold)
        return self.jobs[job.id]

    @rule(job=known)
    def deliver(self, job: Expected) -> None:
        """The message of the current dispatch reaches a worker."""
        claim = wish(job.fence, lease=self.lease)
        [answer] = jobs.claim(self.tracked.connection, [claim])
        if job.status not in WAITING or job.hold is not None:
            assert answer is _refusal(job)
            return
        assert isinstance(answer, Attempt)
        assert (answer.job_id, answer.attempt, answer.retry_count) == (job.id, job.attempt + 1, job.retry_count)
        job.status, job.attempt, job.progress, job.claim = Status.RUNNING, answer.attempt, 0, claim

    @rule(job=known)
    def deliver_an_older_message(self, job: Expected) -> None:
        """It was late, or came twice."""
        assert jobs.claim(self.tracked.connection, [wish(job.older)]) == [Refusal.STALE]

    @rule(job=known)
    def ask_again(self, job: Expected) -> None:
        """The reply to the last claim was lost."""
        if job.claim is not None:
            [answer] = jobs.claim(self.tracked.connection, [job.claim])
            granted = job.status is Status.RUNNING and job.claim.fence == job.fence
            assert isinstance(answer, Attempt if granted else Refusal)

    @rule(job=known, percent=st.none() | st.integers(-10, 200), stale=st.booleans())
    def report(self, job: Expected, percent: int | None, stale: bool) -> None:  # noqa: FBT001 - drawn
        """The body says how far it is."""
        attempt = job.attempt - 1 if stale else job.attempt
        expected = job.status is Status.RUNNING and not stale
        assert jobs.report(self.tracked.connection, Progress(job.fence, attempt, percent, "news")) is expected
        if expected:
            job.progress = max(job.progress, min(99, percent or 0))

    @rule(job=known, kind=st.sampled_from(KINDS), by=st.sampled_from(FENCES))
    def settle(self, job: Expected, kind: OutcomeKind, by: str) -> None:
        """An attempt ended, this one or an older one."""
        fence = job.older if by == "old dispatch" else job.fence
        attempt = {"dispatch": None, "old attempt": job.attempt - 1}.get(by, job.attempt)
        ended = Outcome(fence, kind, "worker-1", attempt, delay=HOUR)
        settled = accepted(self.tracked.connection, [ended], max_losses=MAX_LOSSES)
        if job.status is not Status.RUNNING or by.startswith("old"):
            assert settled == []
            return
        job.end(kind)
        if kind == "replaced":
            wanted = new_job(id=job.id, max_retries=job.max_retries)
            assert successors.call(self.tracked.connection, wanted, UNLIMITED, [job.id])
        assert [(each.fence, each.status) for each in settled] == [(fence, job.status)]

    @rule(job=known, by_message=st.booleans())
    def cancel(self, job: Expected, by_message: bool) -> None:  # noqa: FBT001 - drawn
        """A person, or a revoke from outside."""
        was_running = job.status is Status.RUNNING
        assert self._cancel(job, by_message=by_message) is can_cancel(job.status)
        if can_cancel(job.status):
            job.status, job.hold, job.stopping = Status.CANCELLED, None, was_running

    def _cancel(self, job: Expected, *, by_message: bool) -> bool:
        if by_message:
            return bool(jobs.cancel_dispatch(self.tracked.connection, job.fence, actor="flower", reason="revoked"))
        try:
            cancelled = jobs.cancel(self.tracked.connection, job.id, ACME, actor="u1")
        except IllegalMove:
            return False
        assert cancelled.was_running is (job.status is Status.RUNNING)
        return True

    @rule(job=known)
    def revoke_an_older_message(self, job: Expected) -> None:
        """It has nothing to do with the job any more."""
        assert not jobs.cancel_dispatch(self.tracked.connection, job.older, actor="flower", reason="late")

    @rule(job=known)
    def body_stops(self, job: Expected) -> None:
        """A worker says that the body of the job is over."""
        assert jobs.stopped(self.tracked.connection, job.fence, actor="worker-1", how="killed") is job.stopping
        job.stopping = False

    @rule(job=known, force=st.booleans())
    def retry(self, job: Expected, force: bool) -> None:  # noqa: FBT001 - drawn
        """A person wants it run again."""
        limit = job.retry_count + 1 if force else job.max_retries
        allowed = can_retry(job.status, job.retry_count, limit) and not job.stopping
        refused = self._retry(job, force=force)
        assert (refused is None) is allowed
        if refused is None:
            job.start_over()
        else:
            assert (refused.retry_after is not None) is job.stopping

    def _retry(self, job: Expected, *, force: bool) -> IllegalMove | None:
        try:
            jobs.retry(self.tracked.connection, job.id, ACME, actor="u1", force=force, limits=UNLIMITED)
        except IllegalMove as refused:
            return refused
        return None

    @rule(job=known)
    def fail_waiting(self, job: Expected) -> None:
        """No worker can ever run it."""
        failed = jobs.fail_waiting(
            self.tracked.connection, job.fence, actor="worker-1", error_type="NotRegistered", message="no handler"
        )
        assert failed is (job.status in WAITING)
        if failed:
            job.status, job.hold = Status.FAILED, None

    @rule(job=known)
    def dispatch(self, job: Expected) -> None:
        """Its message is lost, sent again, and confirmed: that moves nothing."""
        jobs.redispatch(self.tracked.connection, job.fence)
        jobs.mark_dispatched(self.tracked.connection, [job.fence])

    @rule()
    def an_hour_passes(self) -> None:
        """What is held becomes due, and upkeep releases it."""
        held = [job for job in self.jobs.values() if job.hold is not None]
        for job in held:
            self.tracked.make_due(self.tracked.get(job.id))
        released = holds.lift_due(self.tracked.connection, UNLIMITED, 100)
        assert {job.id for job in released} == {job.id for job in held}
        for job in held:
            job.hold, job.renewed = None, job.attempt > 0

    @rule()
    def worker_dies(self) -> None:
        """With all that it ran; upkeep notices, and another worker starts."""
        self.tracked.age_heartbeat(self.lease, LEASE_TIMEOUT)
        settled = reap(self.tracked.connection, LEASE_TIMEOUT, 100, max_losses=MAX_LOSSES)
        running = [job for job in self.jobs.values() if job.status is Status.RUNNING]
        assert {each.job_id for each in settled} == {job.id for job in running}
        for job in running:
            job.end("lost")
        for job in self.jobs.values():
            job.stopping = False
        self.lease = self.tracked.register_worker()

    @rule()
    def upkeep_looks(self) -> None:
        """While everybody lives and nothing is due it changes nothing."""
        assert reap(self.tracked.connection, LEASE_TIMEOUT, 100) == []
        assert holds.lift_due(self.tracked.connection, UNLIMITED, 100) == []

    @invariant()
    def every_row_is_as_the_model_says(self) -> None:
        """One row for each accepted job, where the contract says, with its history as the path that led there."""
        rows = {job.id: job for job in self.tracked.all()}
        assert rows.keys() == self.jobs.keys()
        for job_id, expected in self.jobs.items():
            self._compare(rows[job_id], expected)
            check_job(rows[job_id], self.tracked.history(rows[job_id]))

    def _compare(self, row: JobRecord, expected: Expected) -> None:
        fields = ("status", "hold", "stopping", "attempt", "retry_count", "losses", "progress")
        assert _values(row, fields) == _values(expected, fields)
        assert row.dispatch == expected.dispatch + expected.renewed
        if expected.renewed:
            assert row.dispatched_at is None
            expected.dispatch, expected.renewed = row.dispatch, False

    def teardown(self) -> None:
        """When everything is healed and drained, every accepted job has reached an end."""
        self.an_hour_passes()
        self.worker_dies()
        for job in self.tracked.all():
            if job.status in ACTIVE:
                self.tracked.end(self.tracked.start(job))
        rows = self.tracked.all()
        assert {job.id for job in rows} == self.jobs.keys()
        assert all(job.status in FINISHED and not job.stopping for job in rows)


def _refusal(job: Expected) -> Refusal:
    if job.status is Status.CANCELLED:
        return Refusal.CANCELLED
    if job.status is Status.RUNNING:
        return Refusal.RUNNING
    return Refusal.FINISHED if job.status in FINISHED else Refusal.HELD


def _values(source: object, fields: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(source, name) for name in fields}


def test_any_sequence_of_verbs_keeps_every_row_true(database: Database) -> None:
    """After any sequence of verbs rows, answers and history are consistent, and no job is lost."""
    with database.autocommit() as connection:

        class JobsOfThisTest(Jobs):
            def __init__(self) -> None:
                empty(database)
                super().__init__(Tracked(connection))

        run_state_machine_as_test(
            JobsOfThisTest, settings=settings(ON_ONE_DATABASE, max_examples=25, stateful_step_count=40)
        )
