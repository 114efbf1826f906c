"""What failures have in common, the groups that they make, and what people say of these."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.tracked import ACME, HOUR, Tracked, ids
from tracking import fingerprints, marks
from tracking.error_tables import Marked
from tracking.errors import ErrorNotFound
from tracking.models import EVERYWHERE, Failure, JobRecord, Owner, Scope
from tracking.reads import failures, lists
from tracking.reads.answers import Filters
from tracking.reads.failures import Groups, Standing
from tracking.states import Status

DAY = timedelta(days=1)
ID, OTHER_ID = "019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11", "0f3a19aa-1e7c-4d5a-8f57-0c9d113a1f6a"


def failed(tracked: Tracked, says: str = "no space", kind: str = "OSError", /, **changes: Any) -> JobRecord:
    """A job that has failed with this error."""
    job = tracked.start(tracked.submit(**changes))
    return tracked.end(job, "failed", failure=Failure(kind, says))


def found(tracked: Tracked, scope: Scope = ACME, **narrowed: Any) -> Groups:
    """The groups of a day."""
    given: dict[str, Any] = {"window": DAY, "standing": Standing.OPEN, "size": 50, **narrowed}
    return failures.groups(tracked.connection, scope, **given)


def print_of(tracked: Tracked, job: JobRecord) -> str | None:
    """The fingerprint in the job's row."""
    return failures.fingerprint_of(tracked.connection, job.id)


def shape(tracked: Tracked, message: str | None) -> Any:
    """The shape of a message."""
    return tracked.connection.execute(text("SELECT error_shape(:message)"), {"message": message}).scalar()


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("No row 17 in 3 tables", "No row 8 in 12 tables", "No row # in # tables"),
        (f"Job {ID} is gone", f"Job {OTHER_ID} is gone", "Job # is gone"),
        ("file 'a b.csv' is missing", "file 'c.csv' is missing", "file '#' is missing"),
        ('key "x" twice', 'key "yy" twice', 'key "#" twice'),
        ("can't read 'x'", "can't read 'y'", "can't read '#'"),
        ("at 2026-11-29T06:50:01.123Z it broke", "at 2025-01-02T00:00:00Z it broke", "at # it broke"),
        ("10.0.0.1:5432 refused", "10.0.12.200:6432 refused", "# refused"),
        ("user_17ab and zone9", "user_8 and zone4711", "# and #"),
        ("line\n  one", "line one", "line one"),
        ("x" * 3000, "x" * 5000, "x" * 200),
    ],
)
def test_what_differs_from_job_to_job_is_no_part_of_a_shape(
    tracked: Tracked, one: str, other: str, shared: str
) -> None:
    """Numbers, ids, times, addresses, quoted words, spaces and what comes late are left out of a message's shape."""
    assert shape(tracked, one) == shape(tracked, other) == shared


@pytest.mark.parametrize("says", ["", "'", "''", '"', "'a", "#", "1", "é1ü 'ß'", "a'b'c", "\\", "%s", "{0}"])
def test_any_message_has_a_shape(tracked: Tracked, says: str) -> None:
    """A message of odd characters has a shape, which has itself as its shape."""
    made = shape(tracked, says)
    assert shape(tracked, made) == made


def test_jobs_that_failed_alike_have_the_same_fingerprint(tracked: Tracked) -> None:
    """Type, kind of error and shape make the fingerprint: another type, kind or shape has another one."""
    one, same = failed(tracked, "disk 1 is full"), failed(tracked, "disk 2 is full")
    others = [
        failed(tracked, "disk 1 is full", job_type="sync"),
        failed(tracked, "disk 1 is full", "IOError"),
        failed(tracked, "disk 1 is slow"),
    ]
    assert print_of(tracked, one) == print_of(tracked, same)
    assert len({print_of(tracked, job) for job in (one, *others)}) == 4


@pytest.mark.parametrize("situation", ["queued", "running", "retrying", "backoff", "succeeded", "cancelled"])
def test_what_has_not_failed_has_no_fingerprint(tracked: Tracked, situation: str) -> None:
    """A job has a fingerprint as long as it stands as failed: a retry takes it away."""
    assert print_of(tracked, tracked.put_into(situation)) is None
    again = tracked.retry(failed(tracked))
    stored = tracked.connection.execute(text("SELECT fingerprint FROM jobs WHERE id = :id"), {"id": again.id}).scalar()
    assert stored is None


def test_the_leader_takes_the_fingerprints_that_are_missing(tracked: Tracked) -> None:
    """What failed before there were fingerprints gets the same as what failed since, a batch at a time."""
    jobs = [failed(tracked), failed(tracked), failed(tracked)]
    expected = print_of(tracked, jobs[0])
    tracked.connection.execute(text("UPDATE jobs SET fingerprint = NULL WHERE id <> :id"), {"id": jobs[0].id})
    assert [fingerprints.take(tracked.connection, 1) for _ in range(3)] == [1, 1, 0]
    assert {print_of(tracked, job) for job in jobs} == {expected}


def test_a_group_says_how_many_since_when_and_whose(tracked: Tracked) -> None:
    """A group has its count, over time as well, its first and last failure, its users and its latest job."""
    first = tracked.finished_ago(failed(tracked, "disk 1 is full"), timedelta(days=2))
    early = tracked.finished_ago(failed(tracked, "disk 2 is full", owner=Owner("acme", "u2")), 5 * HOUR)
    last = failed(tracked, "disk 3 is full")
    failed(tracked, "away", "ConnectionError")
    result = found(tracked)
    assert (result.total, result.is_capped, len(result.groups)) == (2, False, 2)
    group = result.groups[0]
    assert (group.job_type, group.error_type, group.message) == ("count_words", "OSError", "disk # is full")
    assert (group.count, group.users, group.organizations, group.of_organizations) == (2, 2, ["acme"], 1)
    assert (group.sample, group.sample_message) == (last.id, "disk 3 is full")
    assert (group.first_seen, group.last_seen) == (first.completed_at, last.completed_at)
    assert (group.failed, group.failed_is_capped, group.marked_at) == (3, False, None)
    assert (sum(group.counts), group.counts[-1], len(group.counts)) == (2, 1, failures.SLICES)
    assert early.completed_at is not None
    place = int((early.completed_at - result.since) / result.width)
    assert group.counts[place] == 1


def test_a_user_sees_their_own_failures(tracked: Tracked) -> None:
    """The groups of a user count their jobs alone; those of another organization are not there."""
    mine = failed(tracked)
    failed(tracked, owner=Owner("acme", "u2"))
    failed(tracked, owner=Owner("globex", "u1"))
    [group] = found(tracked, Scope("acme", "u1")).groups
    assert (group.count, group.users, group.failed, group.sample) == (1, 1, 1, mine.id)
    assert found(tracked, Scope("initech", None)).groups == []


def test_operators_see_the_failures_of_all_organizations(tracked: Tracked) -> None:
    """Everywhere the same error is one group, which names the organizations."""
    failed(tracked)
    failed(tracked, owner=Owner("globex", "u1"))
    failed(tracked, owner=Owner("globex", "u1"))
    [group] = found(tracked, EVERYWHERE).groups
    assert (group.count, group.users, group.failed) == (3, 2, 3)
    assert (group.organizations, group.of_organizations) == (["acme", "globex"], 2)


def test_groups_are_narrowed(tracked: Tracked) -> None:
    """A type, a project, one fingerprint or a shorter window narrow what is grouped; the most come first."""
    old = tracked.finished_ago(failed(tracked, "old"), 3 * HOUR)
    failed(tracked, job_type="sync", project_id="p1")
    failed(tracked, job_type="sync", project_id="p1")
    assert [group.count for group in found(tracked).groups] == [2, 1]
    assert [group.job_type for group in found(tracked, size=1).groups] == ["sync"]
    assert found(tracked, size=1).total == 2
    for narrowed in ({"job_type": "sync"}, {"project_id": "p1"}, {"window": HOUR}):
        assert [group.job_type for group in found(tracked, **narrowed).groups] == ["sync"]
    assert old.id in {group.sample for group in found(tracked).groups}


def test_the_latest_failures_are_counted(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more failures than are read the latest are counted, and it is said that there are more."""
    tracked.finished_ago(failed(tracked, "old"), HOUR)
    for _ in range(3):
        failed(tracked)
    for name in ("MOST_READ", "MOST_KEPT", "MOST_OF_EACH"):
        monkeypatch.setattr(failures, name, 2)
    for scope in (ACME, EVERYWHERE):
        result = found(tracked, scope)
        assert result.is_capped
        assert [(group.message, group.failed, group.failed_is_capped) for group in result.groups] == [
            ("no space", 2, True)
        ]


def test_a_resolved_group_opens_again_with_the_next_failure(tracked: Tracked) -> None:
    """What was resolved is gone from the open groups until another job fails so; only later failures count then."""
    before = failed(tracked)
    name = str(print_of(tracked, before))
    marks.mark(tracked.connection, "acme", name, Marked.RESOLVED, actor="u1")
    assert found(tracked).groups == []
    assert [group.count for group in found(tracked, standing=Standing.RESOLVED).groups] == [1]
    failed(tracked)
    [again] = found(tracked).groups
    assert (again.count, again.failed, again.marked_by) == (1, 2, "u1")
    assert [group.count for group in found(tracked, standing=Standing.RESOLVED).groups] == [1]


def test_an_ignored_group_stays_away_until_it_is_opened(tracked: Tracked) -> None:
    """What is ignored stays so with later failures, in that organization alone, until somebody opens it."""
    name = str(print_of(tracked, failed(tracked)))
    failed(tracked, owner=Owner("globex", "u1"))
    marks.mark(tracked.connection, "acme", name, Marked.IGNORED, actor="u1")
    failed(tracked)
    assert found(tracked).groups == []
    assert [group.count for group in found(tracked, EVERYWHERE).groups] == [1]
    assert [group.count for group in found(tracked, standing=Standing.IGNORED).groups] == [2]
    marks.mark(tracked.connection, "acme", name, None, actor="u1")
    assert [group.count for group in found(tracked).groups] == [2]


def test_nothing_is_said_of_errors_that_are_not_there(tracked: Tracked) -> None:
    """A fingerprint with which no job of the organization has failed cannot be marked, nor opened."""
    name = str(print_of(tracked, failed(tracked, owner=Owner("globex", "u1"))))
    for state in (Marked.RESOLVED, Marked.IGNORED, None):
        with pytest.raises(ErrorNotFound):
            marks.mark(tracked.connection, "acme", name, state, actor="u1")


def test_a_list_is_narrowed_to_what_failed_alike(tracked: Tracked) -> None:
    """The filter `error` keeps the failed jobs with a fingerprint, beside other filters; statuses without any: none."""
    one, two = failed(tracked, "row 1", job_type="sync"), failed(tracked, "row 2", job_type="sync")
    failed(tracked, "other")
    name = print_of(tracked, one)
    for more in ({}, {"job_type": "sync"}, {"statuses": (Status.FAILED,)}, {"search": "type:sync"}):
        listed = lists.page(tracked.connection, ACME, Filters(error=name, **more), number=1, size=10)
        assert (ids(listed.jobs), listed.total) == ([two.id, one.id], 2)
    for more in ({"job_type": "other"}, {"statuses": (Status.SUCCEEDED,)}):
        assert lists.page(tracked.connection, ACME, Filters(error=name, **more), number=1, size=10).total == 0
