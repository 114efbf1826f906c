"""Each command does and prints the same by the API of a profile and with the database of an operator."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID, uuid4

from tests.api.calling import OF_GUARDED
from tests.celeriac.commands.asking import Door
from tests.tracked import Tracked
from tracking.exit_status import Exit
from tracking.jobs import settle
from tracking.models import Failure, Outcome
from tracking.states import Status

TEMPLATE = ("--type", "guarded", "--payload", '{"kind": "small"}')


def test_a_job_is_submitted_listed_shown_and_cancelled(door: Door, tmp_path: Path) -> None:
    """`submit` takes its payload as text, file or standard input; `jobs`, `job`, `cancel` and `explain` see it."""
    file = tmp_path / "payload.json"
    file.write_text('{"kind": "small"}')
    said = ("--priority", "7", "--project", "p1", "--metadata", '{"a": 1}')
    first = door.ask("submit", "guarded", "--payload", f"@{file}", *said).stdout.strip()
    second = door.json("submit", "guarded", "--payload", "-", given='{"kind": "small"}')[0]["jobId"]
    assert {UUID(first), UUID(second)} == {UUID(line[0]) for line in door.lines("jobs")}
    ((shown_id, kind, status, *_),) = door.lines("jobs", "--status", "pending", "--project", "p1")
    assert (shown_id, kind, status) == (first, "guarded", "queued")
    facts = dict(line for line in door.lines("job", first) if len(line) == 2)
    assert {name: facts[name] for name in ("priority", "project", "payload", "metadata")} == {
        "priority": "7",
        "project": "p1",
        "payload": '{"kind": "small", "count": 1, "since": null}',
        "metadata": '{"a": 1}',
    }
    assert door.json("explain", first)[0]["jobId"] == first
    assert door.lines("cancel", first, second) == [[first, "cancelled"], [second, "cancelled"]]
    assert [entry["event"] for entry in door.json("job", first)[0]["history"]][-1] == "cancelled"
    assert [line[3] for line in door.lines("audit", "--target", first)] == ["job.cancel", "job.create"]
    again = door.ask("cancel", first)
    assert (again.exit_code, "illegal_move" in again.stderr) == (Exit.MISUSED, True)


def test_what_no_request_holds_is_told_in_a_line(door: Door, tmp_path: Path) -> None:
    """A payload or a key that no request can hold, or that says two things, is wrong use, no fault of the command."""
    marked = tmp_path / "marked.json"
    marked.write_bytes(b'\xef\xbb\xbf{"kind": "small"}')  # as Windows writes UTF-8
    assert door.ask("submit", "guarded", "--payload", f"@{marked}").exit_code == 0
    for arguments, words in (
        (("--payload", '{"kind": "\\ud800"}'), "it contains a lone surrogate"),
        (("--payload", '{"kind": "small", "kind": "large"}'), "an object has the key 'kind' twice"),
        (("--metadata", '{"\\udfff": 1}'), "it contains a lone surrogate"),
        (("--key", "a\nb"), "a key has 1 to 255 printable ASCII characters"),
        (("--key", ""), "a key has 1 to 255 printable ASCII characters"),
    ):
        refused = door.ask("submit", "guarded", *arguments)
        assert refused.exit_code == Exit.MISUSED, (arguments, refused.output)
        assert words in refused.stderr


def test_failed_jobs_are_retried(door: Door) -> None:
    """`retry` queues failed jobs again, or repeats one with another payload; what it cannot is told, the rest done."""
    failed, other, queued = door.caller.job("failed"), door.caller.job("failed"), door.caller.job()
    result = door.ask("retry", str(failed.id), str(queued.id))
    assert (result.exit_code, result.stdout) == (Exit.MISUSED, f"{failed.id}\tqueued\n")
    assert str(queued.id) in result.stderr
    assert door.caller.find(failed.id).status is Status.QUEUED
    ((_, repeated),) = door.lines("retry", str(other.id), "--payload", '{"anything": 1}')
    assert door.caller.find(repeated).payload == {"anything": 1}


def test_lists_have_what_there_is(door: Door) -> None:
    """`history`, `stats`, `types`, `pauses`, `circuits`, `queues` and `workers` tell what the API tells."""
    ended = door.caller.job("succeeded")
    door.caller.job("failed")
    assert [line[2] for line in door.lines("history", "--limit", "9")] == ["failed", "succeeded"]
    assert [line[0] for line in door.lines("history", "--status", "completed")] == [str(ended.id)]
    counts = dict(door.lines("stats"))
    assert {name: counts[name] for name in ("succeeded", "failed", "running")} == {
        "succeeded": "1",
        "failed": "1",
        "running": "0",
    }
    assert door.json("stats", "--window", "2h")[0]["failed"] == 1
    listed = {line[0]: line for line in door.lines("types")}
    assert listed["guarded"][1:4] == [door.caller.permissions[-3], "here", "closed"]
    assert listed["generic"][2] == "elsewhere"
    assert door.lines("pauses") == []
    door.caller.post("/v1/job-types/guarded/pause", {"reason": "a\x1b[31m look"})
    assert [line[:2] + line[4:] for line in door.lines("pauses")] == [["guarded", "here", "a\\x1b[31m look"]]
    assert door.lines("circuits") == []
    assert {line[2] for line in door.lines("circuits", "--all")} == {"closed"}
    door.caller.job()
    assert "default" in {line[0] for line in door.lines("queues")}
    assert door.lines("workers") == []


def test_limits_are_set_listed_and_removed(door: Door) -> None:
    """`limits` sets, lists and removes limits; a rate is written as Celery writes it, and a wrong one is refused."""
    mine = ("--only", door.caller.organization, "--type", "open")
    (made,) = door.json("limits", "set", *mine, "--concurrency", "2", "--rate", "10/s")
    assert (made["concurrency"], made["rate"]) == (2, {"jobs": 10, "per": "second"})
    door.ask("limits", "set", *mine, "--per", "key", "--key", "account", "--concurrency", "1")
    listed = [line for line in door.lines("limits", "list") if line[2] == door.caller.organization]
    assert [line[3:6] for line in listed] == [["key account", "1", "-"], ["organization", "2", "10/second"]]
    assert door.lines("limits", "remove", made["id"]) == [[f"{made['id']}: removed."]]
    assert door.ask("limits", "remove", made["id"]).exit_code == Exit.MISUSED
    refused = door.ask("limits", "set", *mine, "--rate", "10/d")
    assert (refused.exit_code, "is no rate such as" in refused.output) == (Exit.MISUSED, True)


def test_schedules_are_handled_by_their_names(door: Door) -> None:
    """`schedules` adds, lists, shows, pauses, resumes, skips, runs and removes by name, and suggests what was meant."""
    made = door.ask("schedules", "add", "nightly", *TEMPLATE, "--cron", "30 2 * * *", "--timezone", "Europe/Berlin")
    assert made.stdout.startswith("nightly: At 02:30, Europe/Berlin; due next 20"), made.output
    assert door.ask("schedules", "pause", "nightly").stdout == "nightly: paused.\n"
    assert [line[:4] for line in door.lines("schedules", "list")] == [
        ["nightly", "guarded", "At 02:30, Europe/Berlin", "paused"]
    ]
    assert door.ask("schedules", "resume", "nightly").stdout.startswith("nightly: due next ")
    assert door.ask("schedules", "skip-next", "nightly").exit_code == Exit.FINE
    job = door.caller.find(door.ask("schedules", "run", "nightly").stdout.strip())
    assert job.payload["kind"] == "small"
    assert "next times" in door.ask("schedules", "show", "nightly").stdout
    missing = door.ask("schedules", "pause", "nightli")
    assert (missing.exit_code, "did you mean 'nightly'?" in missing.stderr) == (Exit.MISUSED, True)
    assert door.ask("schedules", "remove", "nightly").stdout == "nightly: removed.\n"


def test_templates_are_kept_and_used(door: Door) -> None:
    """`templates` adds, changes, lists, shows, runs and removes."""
    assert dict(door.lines("templates", "add", "small", *TEMPLATE))["version"] == "1/1"
    assert dict(door.lines("templates", "change", "small", "--priority", "3"))["version"] == "2/2"
    assert [line[2] for line in door.lines("templates", "versions", "small")] == ["2/2", "1/2"]
    assert [line[0] for line in door.lines("templates", "list")] == ["small"]
    assert door.json("templates", "show", "small", "--version", "1")[0]["priority"] is None
    assert door.caller.find(door.ask("templates", "run", "small").stdout.strip()).priority == 3
    assert door.ask("templates", "remove", "small").exit_code == Exit.FINE


def test_webhooks_are_kept_and_tested(door: Door) -> None:
    """`webhooks` adds, lists, changes, rotates, tests and removes, and the secret is shown where it is made alone."""
    made = door.json("webhooks", "add", "https://hooks.example.com/", "--event", "job.failed")[0]
    assert made["secret"]
    listed = door.ask("webhooks", "list")
    assert (made["id"] in listed.stdout, made["secret"] in listed.stdout) == (True, False)
    assert dict(door.lines("webhooks", "change", made["id"], "--disable"))["is"] == "disabled"
    assert dict(door.lines("webhooks", "show", made["id"]))["events"] == "job.failed"
    assert door.json("webhooks", "rotate", made["id"])[0]["secret"] != made["secret"]
    door.ask("webhooks", "change", made["id"], "--enable")
    sent = door.ask("webhooks", "test", made["id"]).stdout.strip()
    assert [line[0] for line in door.lines("webhooks", "deliveries", made["id"])] == [sent]
    assert door.ask("webhooks", "remove", made["id"]).exit_code == Exit.FINE


def test_views_are_saved_and_asked(door: Door) -> None:
    """`views` saves, lists, shows, changes and removes searches by name or id, and lists the jobs that one finds."""
    failed = door.caller.job("failed")
    door.caller.job("succeeded")
    view = door.json("views", "save", "broken", "--search", "status:failed")[0]
    assert [line[:2] for line in door.lines("views", "list")] == [["broken", "status:failed"]]
    assert [line[0] for line in door.lines("views", "jobs", "broken")] == [str(failed.id)]
    assert dict(door.lines("views", "change", "broken", "--name", "all", "--search", ""))["search"] == "-"
    assert len(door.lines("views", "jobs", view["id"])) == 2
    taken = door.ask("views", "save", "all", "--search", "status:failed")
    assert (taken.exit_code, "view_exists" in taken.stderr) == (Exit.MISUSED, True), taken.output
    missing = door.ask("views", "show", "al")
    assert (missing.exit_code, "did you mean 'all'?" in missing.stderr) == (Exit.MISUSED, True), missing.output
    assert door.ask("views", "change", "all").exit_code == Exit.MISUSED
    assert door.ask("views", "remove", "all").stdout == "all: removed.\n"
    gone = door.ask("views", "show", view["id"])
    assert (gone.exit_code, "view_not_found" in gone.stderr) == (Exit.MISUSED, True), gone.output


def test_workflows_are_created_and_cancelled(door: Door) -> None:
    """`workflows` creates one from a file, lists, shows and cancels it."""
    work = {"jobType": "guarded", "payload": {"kind": "small"}}
    jobs = json.dumps({"a": work, "b": {**work, "after": [{"key": "a"}]}})
    flow = door.ask("workflows", "create", "nightly", "--jobs", jobs).stdout.strip()
    assert door.lines("workflows", "list", "--name", "nightly")[0][0] == flow
    assert [job["key"] for job in door.json("workflows", "show", flow)[0]["jobs"]] == ["a", "b"]
    assert door.ask("workflows", "cancel", flow).stdout == "nightly: cancelled 100 %\n"


def test_many_jobs_are_handled_at_once(door: Door) -> None:
    """`bulk` says how many match, begins an operation, lists and aborts it."""
    door.caller.job("failed")
    assert door.ask("bulk", "retry", "--status", "failed", "--dry-run").stdout == "1 jobs match.\n"
    begun = door.ask("bulk", "retry", "--status", "failed")
    operation = begun.stdout.partition(":")[0]
    assert door.lines("bulk", "list")[0][:4] == [operation, "retry", "running", "0 of 1 done"]
    assert door.lines("bulk", "abort", operation)[0][2] == "aborted"


def test_what_is_not_there_is_status_2(door: Door) -> None:
    """A job, a workflow and a webhook that do not exist end a command with 2 and one line."""
    for arguments in (("job",), ("watch",), ("explain",), ("workflows", "show"), ("webhooks", "show")):
        result = door.ask(*arguments, str(uuid4()))
        assert (result.exit_code, result.stderr.count("\n")) == (Exit.MISUSED, 1), result.output
        assert "not_found" in result.stderr


def test_what_was_meant_is_suggested_and_said_once(door: Door) -> None:
    """A type that there is not is told with the one that is close; a title that says all is not followed by itself."""
    meant = door.ask("submit", "guared", "--payload", '{"kind": "small"}')
    assert (meant.exit_code, meant.stderr) == (
        Exit.MISUSED,
        "celeriac: there is no job type 'guared': did you mean 'guarded'?\n",
    )
    far = door.ask("submit", "zzz")
    assert (far.exit_code, "unknown_job_type" in far.stderr) == (Exit.MISUSED, True), far.stderr
    assert door.ask("job", str(uuid4())).stderr == "celeriac: There is no such job (job_not_found)\n"
    odd = door.ask("workflows", "create", "odd", "--jobs", '{"a": 1}')
    assert (odd.exit_code, "invalid_request" in odd.stderr) == (Exit.MISUSED, True), odd.stderr


def test_each_fault_of_a_payload_is_told_apart(door: Door) -> None:
    """Of a payload with several faults each is said, with a semicolon between them."""
    said = door.ask("submit", "guarded", "--payload", '{"kind": "small", "odd": 1, "other": 2}').stderr
    assert said.count("not permitted") == 2
    assert "permitted; payload.other: " in said


def test_a_watch_ends_as_the_job_does(door: Door) -> None:
    """`watch` exits with 0, 1 or 4 for a job that has succeeded, failed or was cancelled, and 5 when it is too late."""
    exits = {"succeeded": Exit.FINE, "failed": Exit.FAILED, "cancelled": Exit.CANCELLED}
    for state, status in exits.items():
        result = door.ask("watch", str(door.caller.job(state).id))
        assert (result.exit_code, result.stdout.split("\t")[1]) == (status, state), result.output
    assert door.ask("watch", str(door.caller.job().id), "--within", "1s").exit_code == Exit.TOO_LATE


def test_a_job_that_runs_again_says_what_it_does_now(door: Door) -> None:
    """In lists and in `watch` a job that runs says what its body reports, and not why the attempt before failed."""
    job = door.caller.job("running")
    with door.caller.api.database.autocommit() as connection:
        tracked = Tracked(connection)
        waiting = tracked.end(job, "released", failure=Failure("Shutdown", "worker-1 was shut down"))
        assert door.lines("jobs")[0][-1] == "worker-1 was shut down"
        running = tracked.start(waiting)
    assert door.lines("jobs")[0][-1] == "-"
    door.caller.report(running, message="Page 4")
    assert door.lines("jobs")[0][-1] == "Page 4"
    watched = door.ask("watch", str(job.id), "--within", "1s")
    assert {line.split("\t")[-1] for line in watched.stdout.splitlines()} == {"Page 4"}


def test_a_traceback_is_printed_once(door: Door) -> None:
    """`job` prints the traceback with the attempt that failed, and not again in the timeline."""
    job = door.caller.job("failed")
    shown = door.ask("job", str(job.id)).stdout
    assert shown.count("Traceback") == 1
    assert shown.count("ValueError") == 2  # of the attempt, and in the timeline
    assert door.json("job", str(job.id))[0]["history"][-1]["detail"]["traceback"] == "Traceback ..."


def test_the_frames_of_libraries_are_passed_over(door: Door) -> None:
    """`job` shows the frames of the handler's code, counts those of libraries, and has all of them on request."""
    files = ("/v/site-packages/celery/x.py", "/home/words.py")
    frames = "".join(f'  File "{file}", line 3, in run\n    go()\n' for file in files)
    text = f"Traceback (most recent call last):\n{frames}ValueError: no word"
    failure = Failure("ValueError", "no word", text)
    job = door.caller.job("running")
    with door.caller.api.database.autocommit() as connection:
        settle(connection, [Outcome(job.fence, "failed", "worker-1", failure=failure)])
    shown = door.ask("job", str(job.id)).stdout
    assert "... 1 frame of libraries, which --frames shows" in shown
    assert "/home/words.py" in shown
    assert "celery" not in shown
    assert "celery/x.py" in door.ask("job", str(job.id), "--frames").stdout


def test_events_are_printed_as_they_come(door: Door) -> None:
    """`events` prints what has happened since an event, in lines and as JSON."""
    first = door.caller.job("succeeded")
    begin = str(door.caller.timeline(first.id)[0].id)
    lines = door.lines("events", "--no-follow", "--after", begin)
    assert [line[1] for line in lines] == ["job:started", "job:completed"]
    told = door.json("events", "--no-follow", "--after", begin, "--job", str(first.id))
    assert [each["data"]["jobId"] for each in told] == [str(first.id)] * 2


def test_groups_of_failures_are_listed_and_marked(door: Door) -> None:
    """`celeriac errors` lists groups, resolves, ignores and opens one; `--error` narrows lists to its jobs."""
    job = door.caller.job("failed", job_type="guarded")
    door.caller.job("failed")
    [group] = door.json("errors", "list", "--type", "guarded", "--within", "1h")
    assert (group["fingerprint"], group["count"], group["sampleJobId"]) == (OF_GUARDED, 1, str(job.id))
    assert [line[0] for line in door.lines("jobs", "--error", OF_GUARDED)] == [str(job.id)]
    assert door.lines("errors", "resolve", OF_GUARDED) == [[f"{OF_GUARDED}: resolved."]]
    assert [line[1] for line in door.lines("errors", "list")] == ["open"]
    assert door.lines("errors", "ignore", OF_GUARDED) == [[f"{OF_GUARDED}: ignored."]]
    assert [line[1] for line in door.lines("errors", "list", "--state", "ignored")] == ["guarded"]
    assert door.lines("errors", "open", OF_GUARDED) == [[f"{OF_GUARDED}: open."]]
    assert len(door.lines("errors", "list")) == 2
