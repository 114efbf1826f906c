"""The audit: what verbs tell of those who used them, how it is found, and how long it is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.tracked import ACME, Tracked, new_job
from tracking import audit, external_types, jobs, retention, revocations
from tracking.admission import line, pauses
from tracking.admission.rule import UNLIMITED, Limits
from tracking.audit import Deed, Entry, Sought
from tracking.audited import Action, Outcome
from tracking.db import Database
from tracking.external_types import ExternalType
from tracking.models import Owner, Report
from tracking.origins import Origin, Source
from tracking.retention import Policy
from tracking.states import Status

CAME = Origin(Source.API, "acme", "10.0.0.1", "r-1")
ALL = Sought(None)


def told(tracked: Tracked, **sought: Any) -> list[Entry]:
    """The entries that match, the oldest first."""
    found = audit.find(tracked.connection, Sought(**{"organization_id": "acme", **sought}), before_id=None, size=1000)
    return list(reversed(found))


def actions(tracked: Tracked, **sought: Any) -> list[str]:
    return [entry.action for entry in told(tracked, **sought)]


def test_every_verb_of_a_job_tells_who_used_it(tracked: Tracked) -> None:
    """Create, cancel, retry and report with an origin are in the audit, each with actor, target, origin and move."""
    job = tracked.submit(external=True, origin=CAME)
    parts: dict[str, Any] = {"actor": "u2", "origin": CAME}
    jobs.track(tracked.connection, job.id, ACME, Report(percent=40), **parts)
    jobs.track(tracked.connection, job.id, ACME, Report(percent=50, message="on"), **parts)
    jobs.cancel(tracked.connection, job.id, ACME, **parts)
    jobs.retry(tracked.connection, job.id, ACME, limits=UNLIMITED, **parts)
    jobs.track(tracked.connection, job.id, ACME, Report(status=Status.SUCCEEDED), **parts)
    entries = told(tracked)
    assert [(each.action, each.actor, each.detail.get("from"), each.detail["to"]) for each in entries] == [
        ("job.create", "u1", None, "queued"),
        ("job.change", "u2", "queued", "running"),
        ("job.cancel", "u2", "running", "cancelled"),
        ("job.retry", "u2", "cancelled", "queued"),
        ("job.change", "u2", "running", "succeeded"),
    ]
    assert {(each.target, each.source, each.address, each.request_id, each.outcome) for each in entries} == {
        (str(job.id), "api", "10.0.0.1", "r-1", "done")
    }


def test_many_at_once_tell_each_its_own(tracked: Tracked) -> None:
    """Of jobs that are submitted at once those with an origin are in the audit, each with its own, in their order."""
    other = Origin(Source.API, "acme", "10.0.0.2", "r-2")
    new = [new_job(origin=CAME), new_job(), new_job(origin=other)]
    jobs.submit_all(tracked.connection, new, UNLIMITED, scope=lambda _: ACME)
    assert [(each.target, each.request_id) for each in told(tracked)] == [
        (str(new[0].id), "r-1"),
        (str(new[2].id), "r-2"),
    ]


def test_what_the_platform_does_by_itself_is_no_deed(tracked: Tracked) -> None:
    """Submits of code, attempts, their ends, holds and a cancel without an origin are in the history alone."""
    tracked.run()
    tracked.cancel(tracked.submit(delay=timedelta(hours=1)))
    tracked.retry(tracked.run("failed"))
    assert told(tracked) == []


def test_a_create_that_is_repeated_is_told_once(tracked: Tracked) -> None:
    """A submit that finds its job there already tells nothing anew."""
    new = new_job(origin=CAME, idempotency_key="k", request_hash="h")
    for _ in range(2):
        jobs.submit(tracked.connection, new, UNLIMITED, scope=ACME)
    assert actions(tracked) == ["job.create"]


def test_controls_tell_who_used_them_when_they_changed_something(tracked: Tracked) -> None:
    """Pause, resume, limits and types are in the audit, once for each change, and those of everybody are nobody's."""
    where: dict[str, Any] = {"organization_id": "acme", "job_type": "sync"}
    for _ in range(2):
        pauses.pause(tracked.connection, **where, actor="u1", reason="moving", origin=CAME)
    for _ in range(2):
        pauses.resume(tracked.connection, **where, actor="u1", origin=CAME)
    line.set_limit(tracked.connection, "acme", 7, actor="u1", origin=CAME)
    line.reset_limit(tracked.connection, "acme", Limits(5), actor="u1", origin=CAME)
    terminal = Origin(Source.CLI)
    external_types.put(tracked.connection, ExternalType("ocr", "p"), actor="operator", origin=terminal)
    external_types.remove(tracked.connection, "ocr", actor="operator", origin=terminal)
    assert [(each.action, each.target, each.detail) for each in told(tracked)] == [
        ("jobs.pause", "sync", {"reason": "moving"}),
        ("jobs.resume", "sync", {}),
        ("organization.limit", "acme", {"limit": 7}),
        ("organization.limit", "acme", {"limit": None}),
    ]
    everybody = told(tracked, organization_id=None, source=Source.CLI)
    assert [(each.action, each.organization_id, each.source) for each in everybody] == [
        ("type.put", None, "cli"),
        ("type.remove", None, "cli"),
    ]


def test_a_revocation_by_remote_control_is_told(tracked: Tracked) -> None:
    """A job that was cancelled by remote control has an entry that says so."""
    job = tracked.submit()
    revocations.revoke(tracked.connection, [job.id], actor="remote control of gen1@host", reason="revoked")
    (entry,) = told(tracked)
    assert (entry.action, entry.source, entry.actor_organization_id) == ("job.cancel", "remote_control", None)


def test_the_audit_outlives_the_job(pool: Database, tracked: Tracked) -> None:
    """The entries of a removed job stay as they were, under their numbers."""
    job = tracked.run(origin=CAME)
    other = tracked.submit(origin=CAME)
    tracked.finished_ago(job, timedelta(days=2))
    before = told(tracked)
    policy = Policy(dict.fromkeys(Status, timedelta(days=1)))
    with pool.begin() as connection:
        retention.prune(connection, policy, limit=None)
    assert [each.id for each in tracked.all()] == [other.id]
    assert told(tracked) == before
    assert [each.target for each in told(tracked, target=str(job.id))] == [str(job.id)]


def test_old_entries_go_in_batches(tracked: Tracked) -> None:
    """Entries that are older than they are kept are removed, the oldest first and so many at a time."""
    for number in range(5):
        audit.write(tracked.connection, CAME, Deed(Action.PAUSE, f"u{number}", "acme"))
    tracked.connection.execute(text("UPDATE audit SET at = at - interval '2 days' WHERE actor < 'u3'"))
    day = timedelta(days=1)
    assert [audit.forget(tracked.connection, day, 2) for _ in range(3)] == [2, 1, 0]
    assert [each.actor for each in told(tracked)] == ["u3", "u4"]


@pytest.fixture
def filled(tracked: Tracked) -> list[Entry]:
    """Entries of two organizations: done by several people, denied and refused, of jobs and of others."""
    for organization in ("acme", "globex"):
        came = Origin(Source.API, organization, "10.0.0.1", "r")
        for user in ("u1", "u2"):
            job = tracked.submit(owner=Owner(organization, user), origin=came)
            audit.write(
                tracked.connection,
                came,
                Deed(Action.CANCEL_JOB, user, organization, str(job.id), Outcome.DENIED, "permission_missing"),
            )
            audit.write(
                tracked.connection,
                came,
                Deed(Action.RETRY_JOB, user, organization, str(uuid4()), Outcome.REFUSED, "job_not_found"),
            )
    return told(tracked, organization_id=None)


@pytest.mark.parametrize(
    "sought",
    [
        {},
        {"actor": "u1"},
        {"actions": ("job.create",)},
        {"actions": ("job.cancel", "job.retry")},
        {"outcome": "done"},
        {"outcome": "denied"},
        {"source": "api"},
        {"source": "cli"},
        {"actor": "u2", "outcome": "refused", "actions": ("job.retry",)},
        {"target": "acme"},
    ],
    ids=str,
)
def test_what_is_sought_is_found(tracked: Tracked, filled: list[Entry], sought: dict[str, Any]) -> None:
    """Each filter finds the entries that match and no other, of one organization alone."""
    same = {name: value for name, value in sought.items() if name != "actions"}
    wanted = [
        each
        for each in filled
        if each.organization_id == "acme"
        and all(getattr(each, name) == value for name, value in same.items())
        and each.action in sought.get("actions", (each.action,))
    ]
    assert told(tracked, **sought) == wanted


def test_the_entries_of_one_job_are_found(tracked: Tracked, filled: list[Entry]) -> None:
    """By the id of a job its history and what was denied are found together."""
    target = next(each.target for each in filled if each.organization_id == "acme")
    assert actions(tracked, target=target) == ["job.create", "job.cancel"]
    assert actions(tracked, target=target, organization_id="globex") == []


def test_a_time_narrows_them(tracked: Tracked, filled: list[Entry]) -> None:
    """Entries are found from a time on, that included, and up to one, that left out."""
    moment = filled[4].at
    assert told(tracked, organization_id=None, after=moment) == [each for each in filled if each.at >= moment]
    assert told(tracked, organization_id=None, before=moment) == [each for each in filled if each.at < moment]
    assert told(tracked, after=datetime(2999, 1, 1, tzinfo=UTC)) == []


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_pages_are_the_whole_without_gap_or_repeat(tracked: Tracked, filled: list[Entry], size: int) -> None:
    """Pages put together are all entries, newest first, whatever the size of a page."""
    found: list[Entry] = []
    before: int | None = None
    while page := audit.find(tracked.connection, ALL, before_id=before, size=size):
        found += page
        before = page[-1].id
    assert found == list(reversed(filled))
