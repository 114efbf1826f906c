"""All who do something to the jobs of two organizations under limits, as the rules of a state machine."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
)
from sqlalchemy import text

from tests.holding import Limited
from tests.oracles import CROWD, EXCEEDED, FOR_ALL_OF_ONE, GATED, UNFOUNDED
from tests.tracked import HOUR, LEASE_TIMEOUT, accepted, reap, wish
from tracking import jobs
from tracking.admission import circuits, job_limits
from tracking.errors import IllegalMove
from tracking.models import Attempt, Failure, Fence, JobRecord, Outcome, Owner, Progress, Scope
from tracking.states import FINISHED, OutcomeKind, Status

ORGANIZATIONS = ("acme", "globex")
TYPES = ("sound", "fragile")
LIMIT = 2
GATES = ("paused", "circuit")
SLOTS = st.sampled_from((2, 8))  # of the workers: fewer than two organizations may use, or more
FAILURES = 2  # in a row open a circuit
PAUSE = timedelta(minutes=1)
ENDS: tuple[OutcomeKind, ...] = ("succeeded", "failed", "retry", "lost", "released", "returned", "cancelled")

# How far the database's clock seems to have run on: everything that a rule compares with it moves into the past.
AN_HOUR_PASSES = (
    "UPDATE jobs SET due_at = due_at - interval '1 hour' WHERE due_at IS NOT NULL",
    "UPDATE jobs SET updated_at = updated_at - interval '1 hour' WHERE status IN ('queued', 'retrying')",
    "UPDATE circuits SET probe_at = probe_at - interval '1 hour', opened_at = opened_at - interval '1 hour'",
    "UPDATE limit_admissions SET expires_at = expires_at - interval '1 hour'",
)


class Everybody(RuleBasedStateMachine):
    """Submitters of two organizations, workers, people and two leaders; messages get lost and come twice."""

    known = Bundle("known")

    def __init__(self, platform: Limited) -> None:
        super().__init__()
        self.platform = platform
        self.tracked = platform.tracked
        self.connection = platform.tracked.connection
        self.messages: list[Fence] = []
        self.lowered: set[str] = set()
        self.failures: Counter[tuple[str, str, str]] = Counter()

    @initialize(target=known, slots=SLOTS)
    def begin(self, slots: int) -> MultipleResults[UUID]:
        """Some jobs are there already: a sequence of verbs on nothing shows nothing."""
        self.lease = self.tracked.register_worker(concurrency=slots)
        kinds = [(of, job_type) for of in ORGANIZATIONS for job_type in (*TYPES, "fragile")]
        return multiple(*[self._submit(of, job_type=job_type) for of, job_type in kinds])

    @rule(
        target=known,
        organization=st.sampled_from(ORGANIZATIONS),
        job_type=st.sampled_from(TYPES),
        priority=st.sampled_from((0, 9)),
        scheduled=st.sampled_from((False, False, True)),
        key=st.sampled_from(("", "", "host")),
        account=st.sampled_from(("a", "b", None)),
    )
    def submit(  # noqa: PLR0917 - drawn
        self,
        organization: str,
        job_type: str,
        priority: int,
        scheduled: bool,  # noqa: FBT001 - drawn
        key: str,
        account: str | None,
    ) -> UUID:
        """A job that depends on no other."""
        what = {"job_type": job_type, "priority": priority, "circuit_key": key, "payload": {"account": account}}
        return self._submit(organization, **what, delay=HOUR if scheduled else None)

    @rule(target=known, data=st.data())
    def submit_dependent(self, data: st.DataObject) -> UUID:
        """A job that depends on up to two of its organization."""
        organization = data.draw(st.sampled_from(ORGANIZATIONS))
        mine = [job.id for job in self._of(organization)]
        wanted = data.draw(st.lists(st.sampled_from(mine), max_size=2, unique=True)) if mine else []
        return self._submit(organization, depends_on=wanted)

    def _submit(self, organization: str, **changes: Any) -> UUID:
        job = self.platform.submit(owner=Owner(organization, "u1"), **changes)
        return job.id

    @rule()
    def dispatch(self) -> None:
        """The messages of all that may be sent reach the broker."""
        unsent = jobs.undispatched(self.connection, timedelta(0), 100)
        self.messages += [job.fence for job in unsent]
        jobs.mark_dispatched(self.connection, [job.fence for job in unsent])

    @rule(data=st.data(), lost=st.booleans())
    def lose_or_repeat_a_message(self, data: st.DataObject, lost: bool) -> None:  # noqa: FBT001 - drawn
        """The broker is restarted without its data, or delivers a message twice."""
        if not self.messages:
            return
        fence = data.draw(st.sampled_from(self.messages))
        if lost:
            self.messages.remove(fence)
            jobs.send_again(self.connection, [fence])
        else:
            self.messages.append(fence)

    @rule(everything=st.booleans(), data=st.data())
    def deliver(self, everything: bool, data: st.DataObject) -> None:  # noqa: FBT001 - drawn
        """A worker gets a message, whichever, or the workers get all of them."""
        chosen = self.messages if everything else [data.draw(st.sampled_from(self.messages))] if self.messages else []
        for fence in tuple(chosen):
            self.messages.remove(fence)
            self._claim(fence)

    def _claim(self, fence: Fence) -> None:
        gated = self._gated(fence)
        [answer] = jobs.claim(self.connection, [wish(fence, lease=self.lease)])
        assert not (isinstance(answer, Attempt) and gated), "it started although it is held"

    def _gated(self, fence: Fence) -> bool:
        return bool(self.connection.execute(text(GATED), {"id": fence.job_id}).scalar())

    @rule(
        data=st.data(),
        kind=st.sampled_from(ENDS),
        stale=st.sampled_from((False, False, False, True)),
        blamed=st.booleans(),
    )
    def settle(self, data: st.DataObject, kind: OutcomeKind, stale: bool, blamed: bool) -> None:  # noqa: FBT001 - drawn
        """A body ends, or an old one says so once more; the process looks whom that lets through."""
        job = self._one(data, Status.RUNNING)
        if job is None:
            return
        jobs.report(self.connection, Progress(job.fence, job.attempt, 50))
        attempt = job.attempt - 1 if stale else job.attempt
        failure = Failure("Error", "wrong", blames_payload=blamed)
        ended = Outcome(job.fence, kind, "worker-1", attempt, failure=failure, delay=HOUR)
        settled = accepted(self.connection, [ended])
        assert bool(settled) is not stale
        if settled:
            self._count(job, kind, blamed=blamed)
        if settled and settled[0].is_awaited and data.draw(st.booleans()):
            self.platform.after(job)
        elif settled and settled[0].has_line and data.draw(st.booleans()):
            self.platform.refilled(job)

    @rule(kind=st.sampled_from(("succeeded", "failed", "failed")))
    def all_bodies_end(self, kind: OutcomeKind) -> None:
        """In the same way, as when a service that they need is back or away; nobody is told at once."""
        for job in self.tracked.all():
            if job.status is Status.RUNNING:
                self.tracked.end(job, kind)
                self._count(job, kind, blamed=False)

    def _count(self, job: JobRecord, kind: OutcomeKind, *, blamed: bool) -> None:
        """What the end of an attempt means for its circuit, which opens exactly when it should."""
        circuit = (job.organization_id, job.job_type, job.circuit_key)
        if kind == "succeeded":
            self.failures[circuit] = 0
        elif kind in ("failed", "retry"):
            was_open = circuit in self._open()
            self.failures[circuit] += not blamed
            opens = circuits.trip(self.connection, job.id, failures=FAILURES, pause=PAUSE) is not None
            assert opens is (self.failures[circuit] >= FAILURES and not was_open)

    def _open(self) -> set[tuple[str, str, str]]:
        rows = self.connection.execute(text("SELECT organization_id, job_type, key FROM circuits"))
        return {tuple(row) for row in rows}

    @rule(turns=st.integers(1, 3))
    def the_platform_works(self, turns: int) -> None:
        """Time passes, the leader looks, messages go out and arrive."""
        for _ in range(turns):
            self.an_hour_passes()
            self.two_leaders_look()
            self.dispatch()
            for fence in self.messages:
                self._claim(fence)
            self.messages.clear()

    @rule(times=st.integers(1, 3))
    def the_service_behind_is_away(self, times: int) -> None:
        """Whatever runs fails, and so do the probes."""
        for _ in range(times):
            self.the_platform_works(1)
            self.all_bodies_end("failed")

    @rule(job_id=known, told=st.booleans())
    def cancel(self, job_id: UUID, told: bool) -> None:  # noqa: FBT001 - drawn
        """A person; the body of a running job stops soon, or is still at it."""
        job = self.tracked.get(job_id)
        try:
            jobs.cancel(self.connection, job_id, Scope(job.organization_id, None), actor="u1")
        except IllegalMove:
            assert job.status in FINISHED
            return
        if told:
            jobs.stopped(self.connection, job.fence, actor="worker-1", how="at a step")
        self.platform.after(job)

    @rule(job_id=known)
    def retry(self, job_id: UUID) -> None:
        """A person wants it run again."""
        job = self.tracked.get(job_id)
        scope = Scope(job.organization_id, None)
        try:
            jobs.retry(self.connection, job_id, scope, actor="u1", force=True, limits=self.platform.limits)
        except IllegalMove:
            assert job.stopping or job.status not in (Status.FAILED, Status.CANCELLED)
            return
        self.platform.after(job)

    @rule(slots=SLOTS)
    def worker_dies(self, slots: int) -> None:
        """With all that it ran; upkeep notices, and another one starts."""
        self.tracked.age_heartbeat(self.lease, LEASE_TIMEOUT)
        reap(self.connection, LEASE_TIMEOUT, 100)
        self.lease = self.tracked.register_worker(concurrency=slots)

    @rule()
    def an_hour_passes(self) -> None:
        """For what is due and for the circuits."""
        for statement in AN_HOUR_PASSES:
            self.connection.execute(text(statement))

    @rule()
    def two_leaders_look(self) -> None:
        """One after the other, as when the first one is slow to notice that it has lost the election."""
        first, second = self.platform.turn(), self.platform.turn()
        assert not set(first) & set(second)
        unfounded = self.connection.execute(text(UNFOUNDED), self.platform.limits.parameters).all()
        assert unfounded == [], "a job waits for nothing"
        if not second:  # the first job of an organization is sent at any time; the look after that takes others back
            crowd = self.connection.execute(text(CROWD), self.platform.limits.parameters).all()
            assert crowd == [], "somebody has sent more than its share that the workers have no slot for"
        exceeded = self.connection.execute(text(EXCEEDED)).all()
        assert exceeded == [], "a limit was exceeded by what has not started"
        assert self.connection.execute(text(FOR_ALL_OF_ONE)).all() == [], "a circuit for all, which is that of one"

    @rule(organization=st.sampled_from(ORGANIZATIONS), number=st.integers(0, 3))
    def change_the_limit(self, organization: str, number: int) -> None:
        before = len(self.platform.in_flight(organization))
        self.platform.set_limit(number, organization)
        if number > 0:
            executing = [job for job in self._of(organization) if job.status is Status.RUNNING or job.stopping]
            assert len(self.platform.in_flight(organization)) <= max(number, len(executing))
            self.lowered |= {organization} if before > number else set()

    @rule(
        per=st.sampled_from(("platform", "organization", "key")),
        organization=st.sampled_from((None, "acme")),
        job_type=st.sampled_from(TYPES),
        concurrency=st.sampled_from((1, 2, None)),
        rate=st.sampled_from((None, None, 2)),
    )
    def set_a_limit(
        self, per: str, organization: str | None, job_type: str, concurrency: int | None, rate: int | None
    ) -> None:
        self.platform.bound(
            per,
            job_type,
            organization_id=organization if per != "platform" else None,
            key_path="account" if per == "key" else None,
            concurrency=concurrency,
            rate=rate,
            period=None if rate is None else HOUR,
        )

    @rule(data=st.data())
    def take_a_limit_away(self, data: st.DataObject) -> None:
        limits = job_limits.listed_limits(self.connection)
        if limits:
            self.platform.unbound(data.draw(st.sampled_from(limits)))

    @rule(organization=st.sampled_from(ORGANIZATIONS), weight=st.sampled_from((None, 3)))
    def weigh(self, organization: str, weight: int | None) -> None:
        """An operator lets an organization have a greater share, or the usual one."""
        self.platform.weigh(organization, weight)

    @rule(
        organization=st.sampled_from((None, "acme")),
        job_type=st.sampled_from((None, "fragile")),
        over=st.booleans(),
    )
    def pause_or_resume(self, organization: str | None, job_type: str | None, over: bool) -> None:  # noqa: FBT001
        if over:
            self.platform.resume(organization, job_type)
        else:
            self.platform.pause(organization, job_type)

    def _of(self, organization: str) -> list[JobRecord]:
        return [job for job in self.tracked.all() if job.organization_id == organization]

    def _one(self, data: st.DataObject, *statuses: Status) -> JobRecord | None:
        found = [job for job in self.tracked.all() if job.status in statuses]
        return data.draw(st.sampled_from(found)) if found else None
