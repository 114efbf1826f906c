"""The table of ends: whatever a handler does, its attempt ends in the row, at once and once, with the true reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psutil
import pytest

from tests.live import LivePlatform
from tests.servers import Servers, new_database
from tests.verifying import findings
from tracking.models import JobRecord


@dataclass(frozen=True, slots=True)
class End:
    """What must be in the row: `text` is part of the message; `bodies` how often the body ran; `pools`: where."""

    task: str
    args: tuple[str, ...]
    error: str | None
    text: str = ""
    bodies: int = 1
    status: str = "failed"
    pools: tuple[str, ...] = ("prefork", "threads", "solo")
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in the table."""
        return "-".join((self.task, *self.args))


def _end(kind: str, error: str | None, text: str = "", **rest: Any) -> End:
    return End("end", (kind,), error, text, **rest)


PREFORK = ("prefork",)
WORKERS_LIMIT = "5"  # seconds

ENDS = [
    _end("value_error", "ValueError", "boom"),
    _end("key_error", "KeyError", "absent"),
    _end("silent_error", "LookupError", "LookupError"),
    _end("cancelled_error", "CancelledError", "the loop is closed"),
    _end("keyboard", "KeyboardInterrupt"),
    _end("generator_exit", "GeneratorExit", "early"),
    _end("outside", "Outside", "none of ours"),
    _end("exit", "SystemExit", "3"),
    _end("exit_words", "SystemExit", "cannot go on"),
    _end("exit_nothing", "SystemExit"),
    _end("shutdown", "WorkerShutdown"),
    _end("terminate", "WorkerTerminate"),
    _end("terminated", "Terminated"),
    _end("worker_lost", "WorkerLostError", "so it says"),
    _end("hard_limit_said", "TimeLimitExceeded"),
    _end("soft_limit_said", "SoftTimeLimitExceeded", "so it says"),
    _end("memory", "MemoryError", "too much"),
    _end("recursion", "RecursionError", "maximum recursion depth"),
    _end("group", "ExceptionGroup", "several (2 sub-exceptions)"),
    _end("outside_group", "BaseExceptionGroup", "several (1 sub-exception)"),
    _end("stop_iteration", "StopIteration", "at once"),
    _end("unicode", "UnicodeDecodeError", "invalid start byte"),
    _end("nul", "ValueError", "a\N{REPLACEMENT CHARACTER}b?c"),
    _end("long", "ValueError", "... cut ..."),
    _end("database", "OperationalError", "server closed"),
    _end("unprintable", "Unprintable", "<Unprintable>"),
    _end("interrupting", "Interrupting", "<Interrupting>"),
    _end("unreducible", "Unreducible", "here"),
    _end("demanding", "Demanding", "this and that"),
    _end("locked", "Locked", "held"),
    _end("ignore", "Ignore", "ignored", status="cancelled"),
    _end("cancelled_said", "Ignore", "ignored", status="cancelled"),
    _end("reject", "Reject", "no"),
    _end("reject_error", "Reject", "disk full"),
    _end("requeue", "Reject", "not now", bodies=3),
    _end("retry_raised", "MaxRetriesExceededError", "2 retries", bodies=3),
    _end("retry_nan", "InvalidValue", "not a finite number"),
    _end("retry_quietly", "MaxRetriesExceededError", "Can't retry", bodies=3),
    _end("retry_caught", "MaxRetriesExceededError", "Can't retry", bodies=3),
    _end("retry_first", "MaxRetriesExceededError", "Can't retry", bodies=3),
    _end("retry_when", "InvalidValue", "number of seconds"),
    _end("bytes", None, status="succeeded"),
    _end("generator", "LookupError", "no second one"),
    _end("rejecting_generator", "Reject", "not from here"),
    _end("not_a_number", "InvalidValue", "not a finite number"),
    _end("object", "PydanticSerializationError", "object"),
    _end("endless", "ValueError", "Circular reference"),
    _end("silent", "PydanticSerializationError", "Silent"),
    _end("surrogate", "InvalidValue", "surrogate"),
    _end("large", "InvalidValue", "at most"),
    _end("deep", "InvalidValue", "nested deeper"),
    _end("os_exit", "WorkerLost", "took down 3 workers", bodies=3, pools=PREFORK),
    _end("os_exit_zero", "WorkerLost", "took down 3 workers", bodies=3, pools=PREFORK),
    _end("sigkill", "WorkerLost", "took down 3 workers", bodies=3, pools=PREFORK),
    _end("sigsegv", "WorkerLost", "took down 3 workers", bodies=3, pools=PREFORK),
    _end("sigterm", "WorkerLost", "took down 3 workers", bodies=3, pools=PREFORK),
    _end("sigusr1", "Interrupted", "by mistake", bodies=3, pools=PREFORK),
    End("end_in_time", ("sleep",), "SoftTimeLimitExceeded", pools=PREFORK),
    End("end_by_force", ("deaf",), "TimeLimitExceeded", "3", pools=PREFORK),
    _end("sleep", "SoftTimeLimitExceeded", pools=PREFORK, options={"soft_time_limit": 2}),
    _end("doze", "SoftTimeLimitExceeded", pools=PREFORK),  # the worker's own limit
    *(
        End(task, (place, kind, body), error, text, bodies, status)
        for task, places in (
            ("hooked", ("on_failure", "after_return")),
            ("heard", ("task_failure", "task_postrun")),
        )
        for place in places
        for kind in ("value_error", "exit", "cancelled_error", "memory", "reject", "requeue", "ignore", "retry_raised")
        for body, error, text, bodies, status in [("key_error", "KeyError", "absent", 1, "failed")]
    ),
    *(
        End(task, (place, kind, "fine"), None, status="succeeded")
        for task, places in (
            ("hooked", ("on_success", "after_return")),
            ("heard", ("task_success", "task_postrun")),
        )
        for place in places
        for kind in ("value_error", "exit", "cancelled_error", "memory", "reject", "requeue", "ignore", "retry_raised")
    ),
    *(
        End("hooked", (place, kind, "fine"), error, text, bodies=0)
        for place in ("before_start", "call")
        for kind, error, text in (("value_error", "ValueError", "boom"), ("exit", "SystemExit", "3"))
    ),
    End("hooked", ("before_start", "fine", "fine"), None, status="succeeded"),
    End("hooked", ("before_start", "reject", "fine"), "Reject", "no", bodies=0),
    End("hooked", ("on_retry", "value_error", "retry"), "MaxRetriesExceededError", bodies=2),
    End("hooked", ("on_retry", "exit", "retry"), "MaxRetriesExceededError", bodies=2),
    End("hooked", ("on_success", "os_exit", "fine"), None, status="succeeded", pools=PREFORK),
    End("hooked", ("on_failure", "os_exit", "key_error"), "KeyError", "absent", pools=PREFORK),
    *(
        End("end_again", (kind,), error, text, bodies=2)
        for kind, error, text in (
            ("cancelled_error", "CancelledError", "the loop is closed"),
            ("exit", "SystemExit", "3"),
            ("outside", "Outside", "none of ours"),
            ("locked", "Locked", "held"),
        )
    ),
    *(
        End("hooked_by_force", (place, kind, "deaf"), "TimeLimitExceeded", "3", pools=PREFORK)
        for place, kind in (("on_failure", "value_error"), ("on_failure", "exit"), ("after_return", "keyboard"))
    ),
    End("heard", ("task_prerun", "exit", "fine"), "SystemExit", "3", bodies=0),
    End("heard", ("task_prerun", "value_error", "fine"), None, status="succeeded"),
]


@dataclass(frozen=True, slots=True)
class Table:
    """What became of every end on one pool."""

    pool: str
    platform: LivePlatform
    jobs: dict[str, JobRecord]
    bodies: Counter[str]
    redelivered: list[str]


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def table(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Table]:
    """All ends at once, on one worker."""
    pool: str = request.param
    directory = tmp_path_factory.mktemp(pool)
    witness = directory / "bodies"
    witness.touch()
    environment = {"CELERIAC_IMPORTS": "tests.ends_handlers,tests.sample_handlers", "CELERIAC_ORGANIZATION_LIMIT": "0"}
    with new_database(servers) as url, LivePlatform(url, servers.valkey_url, directory, **environment) as platform:
        platform.start_worker("-P", pool, "--soft-time-limit", WORKERS_LIMIT, concurrency=4)
        calls: list[tuple[str, list[Any], dict[str, Any], dict[str, Any]]] = [
            (end.task, [*end.args, str(witness)], {}, {"organization": "ends", "user": "u", **end.options})
            for end in ENDS
            if pool in end.pools
        ]
        ids: list[UUID] = platform.submit_all(calls)
        names = [end.name for end in ENDS if pool in end.pools]
        ended = {name: platform.wait_for(job_id, within=120) for name, job_id in zip(names, ids, strict=True)}
        lines = [line.split() for line in witness.read_text().splitlines()]
        redelivered = [job_id for job_id, again in lines if again == "True"]
        yield Table(pool, platform, ended, Counter(line[0] for line in lines), redelivered)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
def test_an_attempt_ends_with_its_true_reason(table: Table, end: End) -> None:
    """Whatever a body does, its attempt ends with the true status, type, message and number of bodies."""
    if table.pool not in end.pools:
        pytest.skip("needs a process of its own")
    job = table.jobs[end.name]
    assert (job.status, job.error_type) == (end.status, end.error), job.error_message
    assert end.text in (job.error_message or "")
    assert table.bodies[str(job.id)] == end.bodies
    finals = [each for each in table.platform.events(job.id) if each in ("completed", "failed", "cancelled")]
    assert len(finals) == 1 + job.retry_count, "exactly one outcome of each attempt"


def test_the_worker_has_survived_them_all(table: Table) -> None:
    """After all kinds of ends the worker's main process is the same and runs jobs."""
    assert psutil.Process(table.platform.worker_pid).is_running()
    assert table.platform.wait_for(table.platform.submit("noop", organization="ends", user="u")).status == "succeeded"


def test_every_promise_holds_afterwards(table: Table) -> None:
    """After all kinds of ends `celeriac verify` finds nothing."""
    broken = [each for each in findings(table.platform.database) if not each.holds]
    assert not broken


def test_the_next_body_after_a_requeue_knows_that_it_is_not_the_first(table: Table) -> None:
    """The body after a requeue sees `delivery_info["redelivered"]`."""
    job = table.jobs["end-requeue"]
    assert table.redelivered.count(str(job.id)) == 2
    assert table.redelivered.count(str(table.jobs["end-retry_raised"].id)) == 0
