"""What an operator does with schedules at a terminal: `celeriac schedules`."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result

from celeriac.commands.cli import command
from tests import beat_app, sample_handlers
from tests.tracked import Tracked
from tracking import audit, clean_ups
from tracking.audit import Sought
from tracking.db import Database
from tracking.exit_status import Exit
from tracking.reads import schedules as reads
from tracking.schedules.values import Schedule

pytestmark = pytest.mark.usefixtures("configured")
assert sample_handlers.count_words.name == "count_words"  # it is known here

MINE = ("--organization", "acme")
WHOSE = (*MINE, "--user", "u1")
NIGHTLY = ("add", "nightly", *WHOSE, "--job-type", "count_words", "--payload", '{"words": ["a"]}')


def celeriac(*arguments: str) -> Result:
    """The result of `celeriac schedules`."""
    return CliRunner().invoke(command, ["schedules", *arguments])


def kept(pool: Database) -> dict[str, Schedule]:
    """The schedules of acme, by name."""
    with pool.begin() as connection:
        return {each.plan.name: each for each in reads.of_all(connection, "acme")}


def test_a_schedule_is_made_handled_and_removed(pool: Database, tracked: Tracked) -> None:
    """`celeriac schedules` adds, lists, pauses, resumes, skips, runs and removes, and the audit tells the operator."""
    made = celeriac(*NIGHTLY, "--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--catch-up", "all")
    assert made.output.startswith("nightly: At 02:30, Europe/Berlin; due next 20")
    before = kept(pool)["nightly"].next_at
    assert celeriac("pause", "nightly", *MINE).output == "nightly: paused.\n"
    assert "paused" in celeriac("list", *MINE).output
    assert celeriac("resume", "nightly", *MINE).output.startswith("nightly: due next ")
    assert celeriac("skip-next", "nightly", *MINE).exit_code == Exit.FINE
    after = kept(pool)["nightly"].next_at
    assert before is not None
    assert after is not None
    assert after > before
    job = tracked.get(UUID(celeriac("run", "nightly", *MINE).output.strip()))
    assert (job.user_id, job.payload["words"]) == ("u1", ["a"])
    assert "nightly" in celeriac("everywhere").output
    assert celeriac("remove", "nightly", *MINE).output == "nightly: removed.\n"
    assert kept(pool) == {}
    entries = audit.find(tracked.connection, Sought("acme"), before_id=None, size=100)
    done = {(entry.actor, entry.source) for entry in entries if entry.action.startswith("schedule.")}
    assert done == {("u1", "cli"), ("operator", "cli")}


def test_what_the_platform_cleans_up_is_in_the_list_of_all(tracked: Tracked) -> None:
    """`celeriac schedules everywhere` has the clean-ups of the platform after the schedules of all organizations."""
    clean_ups.note(tracked.connection, "retention", 60, timedelta(0), removed=7, error=None)
    assert celeriac("everywhere").output.split()[-2:] == ["removed", "7"]
    assert celeriac("list", *MINE).output == ""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (NIGHTLY, "Say when"),
        ((*NIGHTLY, "--cron", "@daily", "--every", "1h"), "Say when"),
        ((*NIGHTLY, "--every", "1h", "--timezone", "UTC"), "Say when"),
        ((*NIGHTLY, "--every", "soon"), "--every"),
        ((*NIGHTLY, "--every", "500d"), "everySeconds"),
        ((*NIGHTLY, "--cron", "0 0 30 2 *"), "day-of-month"),
        ((*NIGHTLY, "--cron", "@daily", "--timezone", "Mars"), "no time zone"),
        ((*NIGHTLY[:-1], '{"words": 7}', "--cron", "@daily"), "payload.words"),
        ((*NIGHTLY[:-1], "[]", "--cron", "@daily"), "no JSON object"),
        ((*NIGHTLY[:-4], "--job-type", "forgotten", "--cron", "@daily"), "no handler is registered"),
        (("pause", "nightly", *MINE), "there is no schedule 'nightly'"),
        (("import", "nowhere:app", *WHOSE), "no Celery app"),
    ],
    ids=str,
)
def test_what_cannot_be_is_told_in_one_line(arguments: tuple[str, ...], line: str) -> None:
    """Wrong times, payloads, types and names are refused with one line and the status of a wrong use."""
    result = celeriac(*arguments)
    assert (result.exit_code, line in result.stderr) == (Exit.MISUSED, True), result.stderr


def test_a_second_one_of_a_name_is_refused(pool: Database) -> None:
    """A schedule of a name that there is already is refused, and the first one stays."""
    celeriac(*NIGHTLY, "--every", "1h")
    result = celeriac(*NIGHTLY, "--every", "2h")
    assert (result.exit_code, "already" in result.stderr) == (Exit.MISUSED, True)
    assert kept(pool)["nightly"].plan.every_seconds == 3600


EXPECTED: dict[str, dict[str, Any]] = {
    "every morning": {"cron": "30 7 * * 1,2,3,4,5", "timezone": "Europe/Berlin"},
    "in tokyo": {"cron": "*/15 8,9 * * *", "timezone": "Asia/Tokyo"},
    "first of a quarter": {"cron": "0 0 1 */3 *", "timezone": "Europe/Berlin"},
    "each half hour": {"every_seconds": 1800, "priority": 7},
    "each ten seconds": {"every_seconds": 10},
    "each minute": {"every_seconds": 60, "payload": {}},
}


def test_the_schedule_of_beat_is_taken_over_once(pool: Database) -> None:
    """`celeriac schedules import` makes each entry a schedule, in its own zone, and a second time changes nothing."""
    imported = ("import", "tests.beat_app:shop", *WHOSE)
    first = celeriac(*imported)
    assert first.exit_code == Exit.FINE, first.stderr
    assert first.output == "".join(f"{name}: added.\n" for name in sorted(EXPECTED))
    found = kept(pool)
    for name, said in EXPECTED.items():
        assert {field: getattr(found[name].plan, field) for field in said} == said, name
        assert found[name].plan.payload == said.get("payload", {"words": ["a"]})
    assert celeriac(*imported).output == "".join(f"{name}: as it was.\n" for name in sorted(EXPECTED))
    assert kept(pool) == found


def test_what_beat_says_anew_is_changed_and_the_rest_stays(pool: Database, tracked: Tracked) -> None:
    """An entry that has changed changes its schedule, whose pause and project are as somebody has set them since."""
    celeriac("import", "tests.beat_app:shop", *WHOSE)
    celeriac("pause", "each minute", *MINE)
    tracked.connection.exec_driver_sql("UPDATE schedules SET every_seconds = 61, project_id = 'p' WHERE cron IS NULL")
    again = celeriac("import", "tests.beat_app:all_kinds", *WHOSE)
    assert "each minute: changed." in again.output
    schedule = kept(pool)["each minute"]
    assert (schedule.plan.every_seconds, schedule.plan.project_id, schedule.paused) == (60, "p", True)


def test_what_cannot_be_taken_over_is_told_and_the_others_are(pool: Database) -> None:
    """Each entry that cannot be a schedule is told with a clear word, the others are taken, and the status says so."""
    result = celeriac("import", "tests.beat_app:all_kinds", *WHOSE)
    assert result.exit_code == Exit.MISUSED
    told = dict(line.removeprefix("celeriac: ").split(": refused: ") for line in result.stderr.splitlines())
    assert told.keys() == beat_app.REFUSED.keys()
    words = {
        "at sunset": "solar times (sunrise and its like) are not supported",
        "half a second": "whole seconds",
        "both days": "leave one of them out",
        "unknown": "no handler is registered",
        "unfit": "payload.words",
        "elsewhere": "the option queue",
    }
    assert {name for name, word in words.items() if word not in told[name]} == set(), json.dumps(told)
    assert kept(pool).keys() == {"each minute"}
