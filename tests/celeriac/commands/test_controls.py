"""What an operator sets at a terminal: `celeriac limit`, `pause` and `resume`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from celeriac.commands.cli import command
from tests.holding import limited
from tests.live import LivePlatform
from tests.servers import Servers
from tests.tracked import Tracked
from tracking.admission import pauses
from tracking.db import Database
from tracking.limit_tables import paused_queues
from tracking.models import Owner
from tracking.reads import seen
from tracking.settings import settings

pytestmark = pytest.mark.usefixtures("configured")


def celeriac(*arguments: str) -> Result:
    """The result of the command."""
    return CliRunner().invoke(command, list(arguments))


def lines(*arguments: str) -> list[list[str]]:
    """What the command prints, in words; it must end well."""
    result = celeriac(*arguments)
    assert result.exit_code == 0, result.output
    return [line.split(maxsplit=2) for line in result.stdout.splitlines()]


def test_limit_shows_what_an_organization_may_and_does(pool: Database, tracked: Tracked) -> None:
    """`celeriac limit` without a number shows the limit and changes nothing."""
    platform = limited(pool, tracked, 5)
    platform.start(5)
    platform.submit_many(2)
    assert lines("limit", "acme") == [
        *(["limit", "5", "(by default)"], ["executing", "5"], ["in", "line", "2"]),
        ["weight", "1"],
        ["may", "wait", "any number (by default)"],
    ]


def test_limit_gives_an_organization_its_own_and_takes_it_back() -> None:
    """`celeriac limit` sets a limit, 0 for any number, and resets it."""
    assert lines("limit", "acme", "20")[0] == ["limit", "20", "(its own limit)"]
    assert lines("limit", "acme", "0")[0] == ["limit", "none", "(its own limit)"]
    assert lines("limit", "acme", "default")[0] == ["limit", "5", "(by default)"]


def test_limit_bounds_what_may_wait() -> None:
    """`celeriac limit --waiting` and `--weight` set and reset one thing, and leave the others as they are."""
    assert lines("limit", "acme", "--waiting", "1000")[4] == ["may", "wait", "1000 (its own limit)"]
    assert lines("limit", "acme", "--waiting", "default") == lines("limit", "acme")
    assert lines("limit", "acme", "--weight", "3")[3] == ["weight", "3"]
    who = lines("limit", "acme")[5]
    assert (who[:2], who[2].startswith("by operator at 20")) == (["set", "weight,"], True)
    assert lines("limit", "acme", "--weight", "default") == lines("limit", "acme")
    assert "is no number from 1 to 100, nor default" in celeriac("limit", "acme", "--weight", "0").output
    refused = celeriac("limit", "acme", "--waiting", "1000001")
    assert (refused.exit_code, "is no number up to 1000000, nor default" in refused.output) == (2, True)


@pytest.mark.parametrize("limit", ["-1", "x", "100001", "1.5", "", "\uff15"])
def test_what_is_no_limit_is_refused(limit: str) -> None:
    """`celeriac limit` refuses a value that is no limit, and says what is one."""
    result = celeriac("limit", "--", "acme", limit)
    assert (result.exit_code, "is no number up to 100000, nor default" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("options", "held", "said"),
    [
        (["--job-type", "sync"], (None, "sync"), "Jobs of type sync of all organizations"),
        (["--organization", "acme"], ("acme", None), "All jobs of acme"),
        (["--organization", "acme", "--job-type", "sync"], ("acme", "sync"), "Jobs of type sync of acme"),
        (["--everything"], (None, None), "All jobs of all organizations"),
    ],
)
def test_pause_holds_what_was_named_until_the_same_is_resumed(
    tracked: Tracked, options: list[str], held: tuple[str | None, str | None], said: str
) -> None:
    """`celeriac pause` and `resume` with the same options hold and release, and say whether that changed anything."""
    assert celeriac("pause", *options, "--reason", "moving").stdout == f"{said}: paused.\n"
    (pause,) = pauses.of(tracked.connection, "acme")
    assert (pause.organization_id, pause.job_type, pause.paused_by, pause.reason) == (*held, "operator", "moving")
    assert celeriac("pause", *options).stdout == f"{said}: were paused already.\n"
    assert celeriac("resume", *options).stdout == f"{said}: resumed.\n"
    assert pauses.of(tracked.connection, "acme") == []
    assert celeriac("resume", *options).stdout == f"{said}: were not paused so.\n"


def test_pause_holds_a_queue_until_it_is_resumed(tracked: Tracked) -> None:
    """`celeriac pause --queue` and `resume --queue` hold and release a queue, and refuse one that nobody has."""
    tracked.submit(queue="exports")
    assert celeriac("pause", "--queue", "exports", "--reason", "moving").stdout == "The queue exports: paused.\n"
    (pause,) = tracked.connection.execute(select(paused_queues))
    assert (pause.queue, pause.paused_by, pause.reason) == ("exports", "operator", "moving")
    assert celeriac("pause", "--queue", "exports").stdout == "The queue exports: was paused already.\n"
    assert celeriac("resume", "--queue", "exports").stdout == "The queue exports: resumed.\n"
    assert celeriac("resume", "--queue", "exports").stdout == "The queue exports: was not paused.\n"
    assert tracked.connection.execute(select(paused_queues)).all() == []
    refused = celeriac("pause", "--queue", "exprots")
    assert (refused.exit_code, "did you mean 'exports'?" in refused.stderr) == (2, True)
    both = celeriac("pause", "--queue", "exports", "--organization", "acme")
    assert (both.exit_code, "Say which jobs" in both.output) == (2, True)


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_slip_in_a_job_type_is_refused(verb: str, tracked: Tracked) -> None:
    """`celeriac pause` refuses an unknown job type, and suggests what was meant."""
    result = celeriac(verb, "--job-type", "exprot_report")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "celeriac: no handler and no job is of the type 'exprot_report': did you mean 'export_report'?\n"
    )
    assert pauses.of(tracked.connection, "acme") == []


def test_types_of_jobs_without_a_handler_here_can_be_paused(tracked: Tracked) -> None:
    """`celeriac pause` takes a type without a handler here that has jobs in any state."""
    tracked.submit(job_type="of_another_program")
    assert celeriac("pause", "--job-type", "of_another_program").exit_code == 0
    assert celeriac("pause", "--job-type", "of_anotherprogram").exit_code == 2


def test_an_organization_without_jobs_is_told_of() -> None:
    """`celeriac pause` accepts an organization without jobs, and says that it has none."""
    result = celeriac("limit", "acme", "7")
    assert (result.exit_code, result.stderr) == (0, "celeriac: note: no job of 'acme' was seen yet\n")


def test_an_organization_that_looks_like_another_one_is_told_of(tracked: Tracked) -> None:
    """`celeriac pause` suggests an organization with jobs whose name is similar."""
    tracked.submit()
    assert celeriac("pause", "--organization", "acmee").stderr.endswith(": did you mean 'acme'?\n")
    assert celeriac("pause", "--organization", "acme").stderr == ""


def test_all_types_and_organizations_of_the_rows_are_found(tracked: Tracked) -> None:
    """All types and organizations of the rows are found, whatever the status or number of their jobs."""
    for number in range(30):
        job = tracked.submit(job_type=f"type{number % 7}", owner=Owner(f"org{number % 11}", "u1"))
        if number % 3:
            tracked.end(tracked.start(job))
    assert seen.job_types(tracked.connection) == {f"type{number}" for number in range(7)}
    assert seen.organizations(tracked.connection) == {f"org{number}" for number in range(11)}


@pytest.mark.parametrize("verb", ["pause", "resume"])
@pytest.mark.parametrize("options", [[], ["--everything", "--organization", "acme"]])
def test_which_jobs_has_to_be_said(verb: str, options: list[str]) -> None:
    """`celeriac pause` without a job type or organization is wrong use."""
    result = celeriac(verb, *options)
    assert (result.exit_code, "Say which jobs" in result.output) == (2, True)


def test_workers_find_what_was_resumed_by_themselves(
    database_url: str, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `celeriac resume` workers find the jobs by themselves; a pause leaves running jobs alone."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    settings.cache_clear()
    with LivePlatform(database_url, servers.valkey_url, tmp_path) as platform:
        platform.start_worker()
        lines("pause", "--job-type", "add")
        job_id = platform.submit("add", 1, 2)
        assert platform.wait_for(platform.submit("total", [1])).status == "succeeded"
        assert (platform.job(job_id).status, platform.job(job_id).hold) == ("queued", "paused")
        lines("resume", "--job-type", "add")
        assert platform.wait_for(job_id).status == "succeeded"
