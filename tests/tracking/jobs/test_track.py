"""Jobs whose work is done elsewhere: reports move them along the state machine, and nothing else touches them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, text, update

from tests.properties import ON_ONE_DATABASE
from tests.tracked import ACME, HOUR, OTHERS, Tracked, check_job, check_rows, empty, new_job, reap, wish
from tests.verifying import OLD_WORKER, an_hour_passes, broken
from tracking import external_types, jobs
from tracking.admission import holds, line
from tracking.admission.rule import Limits
from tracking.db import Database
from tracking.errors import IllegalMove, JobChanged, JobNotFound, NotExternal
from tracking.external_types import LONGEST, ExternalType
from tracking.models import JobRecord, Refusal, Report, Submitted
from tracking.reads import lists, past
from tracking.reads.explain import explain
from tracking.reads.overview import overview
from tracking.reads.reasons import External
from tracking.schema import jobs as table
from tracking.states import FINISHED, Hold, Status

ONE = Limits(1)


def external(tracked: Tracked, **changes: Any) -> JobRecord:
    """A job of acme's u1 whose work is done elsewhere."""
    return tracked.submit(job_type="llm_agent", external=True, **changes)


def say(tracked: Tracked, job: JobRecord, **said: Any) -> JobRecord:
    """The job after this report of u1's."""
    return jobs.track(tracked.connection, job.id, ACME, Report(**said), actor="u1")


def moves(tracked: Tracked, job: JobRecord) -> list[tuple[str, str | None, str]]:
    """Event, from and to of each entry of the job's history."""
    return [(str(each.event), each.from_status, str(each.to_status)) for each in tracked.history(job)]


def silent(tracked: Tracked, job: JobRecord, age: timedelta) -> None:
    """Let the last report of the job be that long ago."""
    tracked.connection.execute(update(table).where(table.c.id == job.id).values(updated_at=func.now() - age))


def test_a_job_whose_work_is_done_elsewhere_is_never_sent_or_claimed(tracked: Tracked) -> None:
    """A job whose work is done elsewhere is in no look of the dispatcher's or the leader's, and no claim gets it."""
    tracked.register_worker()
    waiting, running = external(tracked), say(tracked, external(tracked), status=Status.RUNNING)
    assert (waiting.hold, running.hold) == (Hold.EXTERNAL, Hold.EXTERNAL)
    assert jobs.undispatched(tracked.connection, timedelta(0), 10) == []
    assert line.with_room(tracked.connection, ONE) == []
    assert reap(tracked.connection, timedelta(0), 10) == []
    assert jobs.claim(tracked.connection, [wish(each.fence) for each in (waiting, running)]) == [
        Refusal.HELD,
        Refusal.RUNNING,
    ]
    assert not jobs.fail_waiting(tracked.connection, waiting.fence, actor="w", error_type="NoHandler", message="none")
    assert tracked.settle(running, "succeeded", children=["a message of somebody's"]) == []
    assert (tracked.get(waiting.id).status, tracked.get(running.id).status) == (Status.QUEUED, Status.RUNNING)


def test_it_takes_no_slot_of_its_organization(tracked: Tracked) -> None:
    """Jobs whose work is done elsewhere take no slot: under a limit of one, another job is sent at once."""
    tracked.register_worker()
    for _ in range(3):
        say(tracked, external(tracked), status=Status.RUNNING)
    assert jobs.submit(tracked.connection, new_job(), ONE).job.hold is None
    assert jobs.submit(tracked.connection, new_job(), ONE).job.hold is Hold.ORGANIZATION_LIMIT


def test_many_at_once_may_be_external(tracked: Tracked) -> None:
    """Among jobs that are submitted at once, the external ones are told from the others, by the table of types too."""
    external_types.put(tracked.connection, ExternalType("ocr"), actor="operator")
    new = [new_job(external=True), new_job(), new_job(job_type="ocr", external=None), new_job(external=None)]
    answers = jobs.submit_all(tracked.connection, new, ONE, scope=lambda _: ACME)
    assert [each.job.external for each in answers if isinstance(each, Submitted)] == [True, False, True, False]
    assert [tracked.get(job.id).external for job in new] == [True, False, True, False]


def test_a_success_of_a_queued_job_passes_through_running(tracked: Tracked) -> None:
    """A queued job that is said to have succeeded was started, by the same report, and its history has both."""
    job = say(tracked, external(tracked), status=Status.SUCCEEDED, result={"documentId": "d"})
    assert (job.status, job.attempt, job.progress, job.result) == (Status.SUCCEEDED, 1, 100, {"documentId": "d"})
    assert moves(tracked, job) == [
        ("created", None, "queued"),
        ("started", "queued", "running"),
        ("completed", "running", "succeeded"),
    ]
    assert (job.worker, tracked.history(job)[1].actor) == ("u1", "u1")
    check_rows(tracked)


def test_progress_begins_a_job_that_waits_and_a_message_does_not(tracked: Tracked) -> None:
    """A percentage begins a job that waits; a message or a sign of life leaves it where it is."""
    job = external(tracked)
    assert say(tracked, job, message="in the mail").status is Status.QUEUED
    assert say(tracked, job).status is Status.QUEUED
    begun = say(tracked, job, percent=40, message="page 4", detail={"page": None})
    assert (begun.status, begun.progress, begun.message) == (Status.RUNNING, 40, "page 4")
    assert say(tracked, job, percent=10).progress == 40
    assert tracked.history(job)[2].detail == {
        "percentage": 40,
        "message": "page 4",
        "current": 0,
        "total": 0,
        "detail": {"page": None},
    }
    assert tracked.events(job) == ["created", "started", "progress", "progress"]
    check_rows(tracked)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("target", [Status.FAILED, Status.CANCELLED])
def test_it_fails_or_is_cancelled_with_the_reason(tracked: Tracked, target: Status, *, begun: bool) -> None:
    """Whoever does the work can say that it has failed or was cancelled, and why; a queued job goes there directly."""
    job = external(tracked)
    if begun:
        say(tracked, job, status=Status.RUNNING)
    ended = say(tracked, job, status=target, error="no paper")
    assert (ended.status, ended.hold, ended.stopping, ended.attempt) == (target, None, False, int(begun))
    detail = tracked.last_detail(job)
    assert detail.get("error" if target is Status.FAILED else "reason") == "no paper"
    check_rows(tracked)


@pytest.mark.parametrize("end", FINISHED)
def test_nothing_is_said_of_a_finished_job(tracked: Tracked, end: Status) -> None:
    """A report on a finished job is an illegal move, and changes nothing."""
    job = say(tracked, external(tracked), status=end)
    for said in ({"percent": 50}, {"status": Status.RUNNING}, {"status": Status.SUCCEEDED}, {}):
        with pytest.raises(IllegalMove, match="finished"):
            say(tracked, job, **said)
    assert tracked.get(job.id) == job


def test_what_workers_run_they_alone_report_on(tracked: Tracked) -> None:
    """A report on a job that workers run is refused in every state, and changes nothing."""
    for situation in ("queued", "running", "succeeded"):
        job = tracked.put_into(situation)
        with pytest.raises(NotExternal):
            say(tracked, job, percent=50)
        assert tracked.get(job.id) == job


@pytest.mark.parametrize("scope", OTHERS)
def test_nobody_reports_on_what_they_do_not_see(tracked: Tracked, scope: Any) -> None:
    """A report on a job outside of the scope finds no job."""
    job = external(tracked)
    with pytest.raises(JobNotFound):
        jobs.track(tracked.connection, job.id, scope, Report(percent=1), actor="x")
    assert tracked.get(job.id) == job


def test_a_report_may_hang_on_the_state_that_was_read(tracked: Tracked) -> None:
    """A report that names an earlier change of the job is refused; one that names the last is written."""
    job = external(tracked)
    later = say(tracked, job, percent=10)
    for said in (Report(percent=20), Report(status=Status.SUCCEEDED)):
        with pytest.raises(JobChanged):
            jobs.track(tracked.connection, job.id, ACME, said, actor="u1", unchanged_since=job.updated_at)
    now = jobs.track(tracked.connection, job.id, ACME, Report(percent=20), actor="u1", unchanged_since=later.updated_at)
    assert now.progress == 20


def test_a_cancel_ends_it_at_once_and_a_retry_lets_it_begin_anew(tracked: Tracked) -> None:
    """A cancelled external job has nothing to stop; retried, it waits for its work again, and is external still."""
    job = say(tracked, external(tracked), percent=30)
    cancelled = jobs.cancel(tracked.connection, job.id, ACME, actor="u1")
    assert (cancelled.was_running, cancelled.job.stopping, cancelled.job.hold) == (False, False, None)
    with pytest.raises(IllegalMove):
        say(tracked, job, percent=40)
    again = tracked.retry(job)
    assert (again.status, again.hold, again.progress) == (Status.QUEUED, Hold.EXTERNAL, 0)
    assert say(tracked, job, status=Status.SUCCEEDED).attempt == 2
    check_rows(tracked)


def test_what_depends_on_it_waits_for_its_end(tracked: Tracked) -> None:
    """A job that workers run may depend on one whose work is done elsewhere."""
    awaited = external(tracked)
    job = tracked.submit(depends_on=[awaited.id])
    assert job.hold is Hold.DEPENDENCY
    say(tracked, awaited, status=Status.SUCCEEDED)
    assert [each.id for each in holds.lift_dependents(tracked.connection, ONE, 10)] == [job.id]


def test_nobody_reports_for_too_long(tracked: Tracked) -> None:
    """A job without a report for the time of its type, of its code or of the settings fails with that reason."""
    external_types.put(tracked.connection, ExternalType("ocr", silence=timedelta(minutes=5)), actor="operator")
    slow, coded, fast = external(tracked), external(tracked), external(tracked)
    of_types = {"llm_agent": timedelta(hours=3), "ocr": timedelta(hours=9)}
    kinds = {slow.id: "llm_agent", coded.id: "generic", fast.id: "ocr"}
    for job in (slow, coded, fast):
        silent(tracked, job, timedelta(hours=2))
        tracked.connection.execute(update(table).where(table.c.id == job.id).values(job_type=kinds[job.id]))
    tracked.submit()
    failed = jobs.abandon(tracked.connection, HOUR, of_types, actor="upkeep", limit=10)
    assert {job.id for job in failed} == {coded.id, fast.id}
    assert {(job.status, job.error_type, job.hold) for job in failed} == {(Status.FAILED, "Abandoned", None)}
    reasons = {job.job_type: job.error_message for job in failed}
    assert reasons == {
        "generic": "nobody has reported on it for 1 h 0 min 0 s",
        "ocr": "nobody has reported on it for 0 h 5 min 0 s",
    }
    assert jobs.abandon(tracked.connection, HOUR, of_types, actor="upkeep", limit=10) == []
    check_rows(tracked)


def test_a_silence_of_days_is_told_in_hours(tracked: Tracked) -> None:
    """A job that is given up after two days says 48 hours, of whatever form the type's time is kept."""
    ocr = ExternalType("ocr", silence=timedelta(days=2))
    external_types.put(tracked.connection, ocr, actor="operator")
    kept, coded = external(tracked), external(tracked)
    tracked.connection.execute(update(table).where(table.c.id == kept.id).values(job_type="ocr"))
    for job in (kept, coded):
        silent(tracked, job, timedelta(days=3))
    of_types = {"llm_agent": timedelta(days=2)}
    failed = jobs.abandon(tracked.connection, HOUR, of_types, actor="upkeep", limit=10)
    assert [job.error_message for job in failed] == ["nobody has reported on it for 48 h 0 min 0 s"] * 2


def test_a_time_without_end_keeps_no_other_job(tracked: Tracked) -> None:
    """A type whose time was kept before there was a bound, or that code made endless, lets others be given up."""
    tracked.connection.execute(text(KEPT_BEFORE))
    kept, coded, other = external(tracked), external(tracked), external(tracked)
    for job, kind in ((kept, "ocr"), (coded, "endless")):
        tracked.connection.execute(update(table).where(table.c.id == job.id).values(job_type=kind))
    silent(tracked, other, timedelta(hours=2))
    of_types = {"endless": timedelta.max}
    failed = jobs.abandon(tracked.connection, HOUR, of_types, actor="upkeep", limit=10)
    assert [job.id for job in failed] == [other.id]
    silent(tracked, kept, LONGEST + HOUR)
    assert [each.id for each in jobs.abandon(tracked.connection, HOUR, of_types, actor="upkeep", limit=9)] == [kept.id]


KEPT_BEFORE = "INSERT INTO external_types (name, silence, added_by) VALUES ('ocr', interval '99999999 days', 'admin')"


def test_counts_and_reasons_know_it(tracked: Tracked) -> None:
    """Work that nobody has begun elsewhere is active, but no worker's: it is neither pending nor held, now or then."""
    job, begun = external(tracked), say(tracked, external(tracked), percent=1)
    for counts in (
        lists.stats(tracked.connection, ACME),
        past.stats(tracked.connection, ACME, datetime.now(UTC), window=HOUR),
    ):
        assert (counts.pending, counts.held, counts.scheduled, counts.oldest_pending_age) == (0, 0, 0, None)
        assert (counts.total_active, counts.running) == (2, 1)
    everywhere = next(load for load in overview(tracked.connection, window=HOUR).loads if load.by is None)
    assert (everywhere.waiting, everywhere.held, everywhere.oldest) == (0, 0, None)
    for each, by in ((job, None), (begun, "u1")):
        (reason,) = explain(tracked.connection, each.id, ACME, ONE).reasons
        assert reason == External(by, each.updated_at)


def test_the_invariants_hold_over_old_ones(tracked: Tracked, pool: Database) -> None:
    """`verify` finds nothing wrong with external jobs that have waited or run for hours beside a living worker."""
    for percent in (None, 5, 7):
        job = external(tracked)
        if percent:
            say(tracked, job, percent=percent)
    tracked.connection.execute(text(OLD_WORKER))
    an_hour_passes(tracked)
    assert broken(pool, ONE) == {}


REPORTS = st.builds(
    Report,
    status=st.none() | st.sampled_from([Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED]),
    percent=st.none() | st.integers(0, 100),
    message=st.none() | st.just("a message"),
)


@settings(ON_ONE_DATABASE)
@given(said=st.lists(REPORTS | st.sampled_from(["cancel", "retry", "abandon"]), max_size=12))
def test_any_reports_keep_the_invariants(pool: Database, said: list[Report | str]) -> None:
    """Whatever is reported, cancelled, retried or abandoned in any order, row and history keep the invariants."""
    empty(pool)
    with pool.autocommit() as connection:
        tracked = Tracked(connection)
        job = external(tracked)
        for each in said:
            try:
                _do(tracked, job, each)
            except IllegalMove:
                assert tracked.get(job.id).status in FINISHED or each == "retry"
            check_job(tracked.get(job.id), tracked.history(job))


def _do(tracked: Tracked, job: JobRecord, each: Report | str) -> None:
    if isinstance(each, Report):
        jobs.track(tracked.connection, job.id, ACME, each, actor="u1")
    elif each == "cancel":
        tracked.cancel(job)
    elif each == "retry":
        tracked.retry(job, force=True)
    else:
        silent(tracked, job, timedelta(0))
        jobs.abandon(tracked.connection, timedelta(0), {}, actor="upkeep", limit=1)
