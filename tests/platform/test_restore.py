"""A database that is restored to an older point under load: what is found, and what becomes of all jobs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from tests.commands import PROGRAM, Ended, run_in
from tests.exporting import NUMBERS
from tests.live import LivePlatform, eventually
from tests.platform.test_cancel import cancel_row
from tests.platform.test_exports import write_report
from tests.restoring import restore, save
from tests.verifying import broken
from tracking import dead_letters
from tracking.schema import jobs

LATER, NEVER = "later", "never"  # queues of jobs that run after the backup, or not before the restore

SUBMIT = """
from tasks import app
for _ in range(20):
    print(app.send_task("noop").id)
"""

RETRY = """
from uuid import UUID
from tasks import app, verbs
from tracking.models import Scope
verbs.retry(app.platform, UUID(stdin), Scope("default", None), actor="u1", force=False, priority=None, origin=None)
"""


@contextmanager
def _load(platform: LivePlatform) -> Iterator[list[UUID]]:
    """Jobs that are submitted all the time by a process of its own; yields those that were accepted so far."""
    accepted: list[UUID] = []
    over = threading.Event()

    def submit() -> None:
        while not over.is_set():
            accepted.extend(UUID(line) for line in platform.run(SUBMIT).split())

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield accepted
    finally:
        over.set()
        thread.join(60)


def _check(platform: LivePlatform, *options: str) -> Ended:
    return run_in(None, platform.environment, PROGRAM, "restore-check", *options)


def _subjects(said: dict[str, Any], kind: str) -> set[str]:
    [found] = [each for each in said["found"] if each["kind"] == kind]
    assert found["count"] == len(found["examples"])
    return {each["subject"] for each in found["examples"]}


def test_after_a_restore_no_job_of_the_backup_is_lost_and_those_after_it_are_reported(
    platform: LivePlatform, tmp_path: Path
) -> None:
    """After the restore of a backup made under load its jobs end, and later ones are reported and do not run."""
    platform.environment |= {"CELERIAC_ORGANIZATION_LIMIT": "0", "CELERIAC_RESEND_AFTER": "1"}
    platform.environment |= {"CELERIAC_HEARTBEAT": "1", "CELERIAC_LEASE_TIMEOUT": "5"}
    platform.environment |= write_report(tmp_path, "numbers", NUMBERS)
    witness, backup = tmp_path / "witness", tmp_path / "backup"
    backup.mkdir()
    (tmp_path / "data" / "exports").mkdir(parents=True)
    exporting, again, waiting = platform.submit_all(
        [
            ("export_report", [], {"payload": {"reportType": "numbers", "filters": {"rows": 3}}}, {"queue": LATER}),
            ("noop", [], {}, {"queue": NEVER}),
            ("noop", [], {}, {"queue": NEVER}),
        ]
    )
    worker = platform.start_worker()
    napping = platform.submit("nap", payload={"seconds": 60})
    platform.wait_for(napping, "running")
    with _load(platform) as accepted:
        eventually(lambda: len(accepted) > 100, what="the load")
        save(platform.environment, backup)
        before = len(accepted)
        eventually(lambda: len(accepted) > before + 100, what="the load after the backup")
    exporter = platform.start_worker(queues=LATER)
    assert platform.wait_for(exporting).status == "succeeded"
    cancel_row(platform, again)
    platform.run(RETRY, str(again))
    words = [({"payload": {"words": [f"late {n}"], "witness": str(witness)}}, {"queue": NEVER}) for n in range(5)]
    late = platform.submit_all([("count_words", [], kwargs, options) for kwargs, options in words])
    eventually(lambda: all(platform.job(job_id).dispatched_at for job_id in (*late, again)), what="their dispatch")
    for process in (worker, exporter):
        process.kill()

    printed = restore(platform.environment, backup)
    known = set(_statuses(platform))
    assert {exporting, again, waiting, napping} <= known
    found = _check(platform, "--json", "--limit", "10000")
    assert (found.status, found.err) == (1, ""), found
    said = json.loads(found.out)
    unknown = _subjects(said, "unknown_job")  # the second look: the first has taken none
    assert {str(job_id) for job_id in late} <= unknown
    assert {UUID(each) for each in unknown} & known == set()
    assert _subjects(said, "later_dispatch") == {str(again)}
    assert _subjects(said, "later_export") == {str(exporting)}
    assert str(napping) in _subjects(said, "running")
    assert "The next event is number 1,000," in printed
    assert "look\tlater_dispatch\t1\t" in printed

    platform.start_worker(queues=f"default,maintenance,{LATER},{NEVER}", concurrency=3)
    cancel_row(platform, napping)
    eventually(lambda: not _unfinished(platform), what="the end of all jobs")
    assert _statuses(platform) == {job_id: "cancelled" if job_id == napping else "succeeded" for job_id in known}
    # What killed workers had not acknowledged, Redis hands out in an hour.
    eventually(lambda: {str(job_id) for job_id in late} <= _set_aside(platform), what="the dead letters")
    assert _set_aside(platform) <= unknown
    assert not witness.exists()
    assert broken(platform.database) == {}
    assert _check(platform).status == 0


def _statuses(platform: LivePlatform) -> dict[UUID, str]:
    with platform.database.autocommit() as connection:
        rows = connection.execute(select(jobs.c.id, jobs.c.status))
        return {row.id: row.status for row in rows}


def _unfinished(platform: LivePlatform) -> int:
    with platform.database.autocommit() as connection:
        unfinished = select(func.count()).where(jobs.c.completed_at.is_(None))
        return int(connection.execute(unfinished).scalar_one())


def _set_aside(platform: LivePlatform) -> set[str]:
    with platform.database.autocommit() as connection:
        return {str(letter.task_id) for letter in dead_letters.newest(connection, 10_000)}
