"""Any workflow, whatever happens to its jobs: all of them end, none starts too early, and the whole is as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import ON_ONE_DATABASE
from tests.tracked import Tracked, check_rows, empty
from tests.verifying import broken
from tests.workflowing import Flow, cancel_job, create
from tracking import jobs
from tracking.db import Database
from tracking.models import JobRecord
from tracking.states import ACTIVE, FINISHED, Status, When
from tracking.workflows.values import After, Node

STEPS = 20
EXAMPLES = 15
LAST_STEPS = 100


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Up to seven jobs, each after some of those before it, of which some take a result of such a one."""
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 7))):
        earlier = draw(st.lists(st.sampled_from([node.key for node in nodes] or ["-"]), unique=True, max_size=3))
        after = [After(key, draw(st.sampled_from(When))) for key in earlier if key != "-"]
        taken = draw(st.sampled_from([None, *(each.key for each in after)]))
        payload = {} if taken is None else {"x": {"$from": taken, "path": "/status"}}
        nodes.append(Node(f"n{number}", "count_words", payload, after))
    return draw(st.permutations(nodes))


ACTS = (
    "run",
    "fail",
    "back off",
    "cancel one",
    "stop bodies",
    "retry one",
    "cancel",
    "retry the part",
    "retry the whole",
)


class Life:
    """What happens to a workflow, step by step, and what must be so after each."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.tracked = flow.tracked

    def step(self, act: str, pick: int) -> None:
        """Something happens, if it can, to one of the jobs or the whole."""
        nodes = sorted(self.flow.nodes.values(), key=lambda each: each.node.key)
        node = nodes[pick % len(nodes)]
        job = self.tracked.get(node.job_id)
        if act in ("run", "fail", "back off"):
            self._run(job, act, is_soon=bool(pick % 2))
        elif act == "cancel one" and job.status in ACTIVE:
            cancel_job(self.flow, node.node.key)
        elif act == "retry one" and job.status in (Status.FAILED, Status.CANCELLED) and not job.stopping:
            self.tracked.retry(job, force=True)
        else:
            self._whole(act, pick)
        self.flow.follow()
        self.check()

    def _run(self, job: JobRecord, act: str, *, is_soon: bool) -> None:
        """One attempt, of which some is left running."""
        if job.status is Status.RUNNING:
            self.tracked.end(job)
        elif self._is_sent(job):
            self._check_start(job)
            running = self.tracked.start(job)
            if act == "run" and is_soon:
                self.tracked.end(running, result={"x": 1})
            elif act == "fail":
                self.tracked.fail(running)
            elif act == "back off":
                self.tracked.back_off(running)

    def _whole(self, act: str, pick: int) -> None:
        if act == "stop bodies":
            self._stop_bodies()
        elif act == "cancel" and not self.flow.now.is_over and pick % 3 == 0:
            self.flow.cancel()
        elif act.startswith("retry the") and self.flow.now.is_over:
            self._retry(whole=act == "retry the whole")

    def drain(self) -> None:
        """Workers are there, and nobody interferes: everything comes to its end."""
        for number in range(LAST_STEPS):
            self._stop_bodies()
            self.flow.follow()
            due = [job for job in self._jobs().values() if job.status in ACTIVE and self._is_sent_or_runs(job)]
            if not due:
                break
            for job in due:
                if job.hold is not None:
                    self.tracked.release(job)
                elif job.status is Status.RUNNING:
                    self.tracked.end(job)
                else:
                    self._check_start(job)
                    self.tracked.end(self.tracked.start(job), "failed" if number % 3 else "succeeded")
        self.flow.conclude()
        self.check()
        assert all(job.status in FINISHED and not job.stopping for job in self._jobs().values())
        assert self.flow.now.is_over

    def check(self) -> None:
        """The status is what its jobs say."""
        states = self.flow.states
        now, found = self.flow.now, self._jobs()
        assert now.status == expected(states, found)
        assert (now.progress == 100) is now.is_over
        assert sum(now.counts.values()) == len(states)
        for key, job in found.items():
            if states[key] == "skipped":
                assert job.status is Status.CANCELLED
                assert job.attempt == 0 or job.retry_count > 0
                assert any(self._cannot(after, found[after.key]) for after in self.flow.nodes[key].node.after)

    def _check_start(self, job: JobRecord) -> None:
        """It waits for nothing more, by its own conditions, and its payload is there."""
        key = next(key for key, each in self.flow.nodes.items() if each.job_id == job.id)
        assert "$from" not in str(job.payload)
        if job.attempt == 0:
            found = self._jobs()
            assert all(self._is_met(after, found[after.key]) for after in self.flow.nodes[key].node.after)

    @staticmethod
    def _is_met(after: After, awaited: JobRecord) -> bool:
        if after.when is When.FINISHED:
            return awaited.status in FINISHED and not awaited.stopping
        return str(awaited.status) == str(after.when)

    @staticmethod
    def _cannot(after: After, awaited: JobRecord) -> bool:
        return after.when is not When.FINISHED and awaited.status in FINISHED and str(awaited.status) != str(after.when)

    def _jobs(self) -> dict[str, JobRecord]:
        return {key: self.tracked.get(each.job_id) for key, each in self.flow.nodes.items()}

    @staticmethod
    def _is_sent(job: JobRecord) -> bool:
        return job.status in (Status.QUEUED, Status.RETRYING) and job.hold is None

    def _is_sent_or_runs(self, job: JobRecord) -> bool:
        return self._is_sent(job) or job.status is Status.RUNNING or job.hold == "backoff"

    def _stop_bodies(self) -> None:
        for job in self._jobs().values():
            if job.stopping:
                jobs.stopped(self.tracked.connection, job.fence, actor="worker-1", how="interrupted")

    def _retry(self, *, whole: bool) -> None:
        before = self.flow.states
        if whole or any(state in ("failed", "cancelled") for state in before.values()):
            made = self.flow.retry(whole=whole).jobs
            assert {key for key, state in before.items() if state in ("failed", "cancelled")} <= made.keys()


def expected(states: Mapping[str, str], found: Mapping[str, JobRecord]) -> str:
    """The status of a workflow as docs/workflows.md has it."""
    if any(state in ACTIVE for state in states.values()) or any(job.stopping for job in found.values()):
        fresh = all(state == "queued" and found[key].attempt == 0 for key, state in states.items())
        return "queued" if fresh else "running"
    for state in ("failed", "cancelled"):
        if state in states.values():
            return state
    return "succeeded"


@settings(ON_ONE_DATABASE, max_examples=EXAMPLES)
@given(
    nodes=graphs(),
    steps=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 6)), max_size=STEPS),
)
def test_whatever_happens_every_job_ends_and_none_starts_too_early(
    pool: Database, tracked: Tracked, nodes: list[Node], steps: list[Any]
) -> None:
    """Any graph under failures, cancels and retries comes to an end that its jobs say, and tells no lie."""
    empty(pool)
    life = Life(create(pool, tracked, *nodes))
    life.check()
    for act, pick in steps:
        life.step(act, pick)
    life.drain()
    check_rows(tracked)
    assert broken(pool) == {}
