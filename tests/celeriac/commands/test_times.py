"""Every time that a command prints for programs is written as the API writes it."""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any
from uuid import uuid4

import click
import pytest
from click.testing import CliRunner

import celeriac.commands
from celeriac.client.answers import Answer
from celeriac.commands.cli import command
from celeriac.commands.program import Program
from tests.api.calling import OF_GUARDED
from tests.celeriac.commands.asking import Door

TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*")
OF_THE_CONTRACT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
# Each command with `--json`, with arguments that have it print something. What is in braces is made before.
ASKED = {
    "jobs": """
        submit guarded --payload {payload} --at 3h --wait --within 1s
        jobs
        job {succeeded}
        job {failed}
        job {retrying}
        watch {succeeded}
        explain {retrying}
        cancel {queued}
        retry {other}
        history
        stats
        events --no-follow --after {begin}""",
    "bulk": """
        bulk retry --status failed
        bulk cancel --status queued
        bulk list
        bulk abort {operation}""",
    "more bulk": """
        bulk delete --status failed
        bulk reprioritize --status queued --priority 3""",
    "schedules": """
        schedules add weekly --type guarded --payload {payload} --every 1h
        schedules list
        schedules show nightly
        schedules pause nightly
        schedules resume nightly
        schedules skip-next nightly
        schedules run nightly
        schedules remove nightly
        audit""",
    "workflows": """
        workflows create new --jobs {work}
        workflows list
        workflows show {workflow}
        workflows cancel {workflow}
        workflows retry {workflow}""",
    "templates": """
        templates add big --type guarded --payload {payload}
        templates change small --priority 3
        templates list
        templates show small
        templates versions small
        templates run small
        templates remove small""",
    "views": """
        views save mine --search status:failed
        views change mine --search status:queued
        views list
        views show mine
        views jobs mine
        views remove mine""",
    "webhooks": """
        webhooks add https://hooks.example.com/ --event job.failed
        webhooks change {webhook} --event job.failed
        webhooks list
        webhooks show {webhook}
        webhooks redeliver {webhook} {delivery}
        webhooks deliveries {webhook}
        webhooks test {webhook}
        webhooks rotate {webhook}
        webhooks remove {webhook}""",
    "controls": """
        queues
        workers
        limits set --only {organization} --type open --concurrency 2
        limits list
        limits remove {limit}
        pauses
        circuits --all
        denied-tokens add --user u9 --issued-before 2h --reason left
        denied-tokens list
        denied-tokens remove {denial}""",
    "looks": """
        errors list
        errors resolve {fingerprint}
        errors ignore {fingerprint}
        errors open {fingerprint}
        audit""",
}
# They ask this machine or a database, and say no organization; the last one shows a terminal alone.
OF_THE_HOST = {"doctor", "verify", "restore-check", "data list"}
OF_A_TERMINAL = {"top"}
# What these print for programs has no time in it.
TIMELESS = {
    *("cancel", "retry", "stats", "events", "queues", "workers", "circuits", "workflows create", "workflows cancel"),
    *("workflows retry", "webhooks test", "webhooks redeliver", "explain"),
    *("schedules remove", "templates remove", "views remove", "webhooks remove", "limits remove"),
    *("denied-tokens remove", "errors resolve", "errors ignore", "errors open"),
}


def printing_json(group: click.Command, *path: str) -> Iterator[str]:
    """The commands that have `--json`, by their words."""
    if isinstance(group, click.Group):
        for name in group.table if isinstance(group, Program) else group.commands:
            below = group.get_command(click.Context(group), name)
            assert below is not None
            yield from printing_json(below, *path, name)
    elif any("--json" in option.opts for option in group.params):
        yield " ".join(path)


def lines(part: str) -> list[tuple[str, list[str]]]:
    """The commands of a part, each as its words and its arguments."""
    known, found = set(printing_json(command)), []
    for line in ASKED[part].split("\n")[1:]:
        words = line.split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        found.append((name, words[len(name.split()) :]))
    return found


def times(said: Any) -> Iterator[str]:
    """All texts in JSON that are a time."""
    if isinstance(said, dict):
        for each in said.values():
            yield from times(each)
    elif isinstance(said, list):
        for each in said:
            yield from times(each)
    elif isinstance(said, str) and TIME.fullmatch(said):
        yield said


@pytest.fixture
def made(door: Door) -> dict[str, str]:
    """What there is in the organization of the test, by the names in the table."""
    caller = door.caller
    jobs = {state: caller.job(state).id for state in ("succeeded", "retrying", "queued")}
    jobs |= {"failed": caller.job("failed", job_type="guarded", payload={"kind": "small"}).id}
    jobs |= {"other": caller.job("failed").id}
    ids = {name: uuid4() for name in ("operation", "workflow", "webhook", "delivery", "limit", "denial")}
    caller.operation(ids["operation"])
    caller.workflow(ids["workflow"])
    caller.webhook(ids["webhook"])
    caller.delivery(ids["webhook"], "failed", ids["delivery"])
    caller.job_limit(ids["limit"])
    caller.denial(ids["denial"])
    caller.schedule(uuid4(), "nightly")
    caller.template(uuid4(), "small")
    caller.post("/v1/job-types/guarded/pause", {"reason": "a look"})
    texts = {name: str(each) for name, each in {**jobs, **ids}.items()}
    return texts | {
        "payload": '{"kind": "small"}',
        "work": json.dumps({"a": {"jobType": "guarded", "payload": {"kind": "small"}}}),
        "organization": caller.organization,
        "fingerprint": OF_GUARDED,
        "begin": str(caller.timeline(jobs["succeeded"])[0].id),
    }


@pytest.mark.parametrize("part", ASKED)
def test_every_time_for_programs_is_utc_in_milliseconds(part: str, door: Door, made: dict[str, str]) -> None:
    """Each command with `--json`, by either door, prints its times as UTC in milliseconds."""
    for name, arguments in lines(part):
        result = door.ask(*name.split(), *(each.format(**made) for each in arguments), "--json")
        assert result.stderr == "" or result.exit_code == 0 or "--wait" in arguments, (name, result.stderr)
        found = list(times([json.loads(line) for line in result.stdout.splitlines()]))
        assert [each for each in found if not OF_THE_CONTRACT.fullmatch(each)] == [], name
        assert found or name in TIMELESS, (name, result.stdout)


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("name", ["verify", "restore-check", "data list"])
def test_so_do_the_commands_of_an_operator(name: str) -> None:
    """What an operator's commands print for programs has no time that is written otherwise."""
    result = CliRunner().invoke(command, [*name.split(), "--json"])
    text = result.stdout
    said = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    assert [each for each in times(said) if not OF_THE_CONTRACT.fullmatch(each)] == []


def test_every_command_with_json_is_asked() -> None:
    """No command with `--json` is left out of these tests."""
    asked = {name for part in ASKED for name, _ in lines(part)}
    assert asked | OF_THE_HOST | OF_A_TERMINAL == set(printing_json(command))


def test_every_time_of_an_answer_is_written_so() -> None:
    """A time in an answer of the client becomes JSON in milliseconds, whoever prints it: no field is a plain one."""
    for module in pkgutil.iter_modules(celeriac.commands.__path__, "celeriac.commands."):
        import_module(module.name)
    waiting: list[type[Answer]] = [Answer]
    for answer in waiting:
        waiting += answer.__subclasses__()
        for name, field in answer.model_fields.items():
            said = f"{field.annotation!r} {field.metadata!r}"
            assert said.count("datetime.datetime") == said.count("in_milliseconds") or said.startswith(
                "<class 'datetime.datetime'> [PlainSerializer(func=<function in_milliseconds"
            ), (answer, name)
    assert len(waiting) > len(ASKED)
