"""docs/limits.md: its examples run, and its tables are those of the API."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from click.testing import CliRunner

from api.routes.limits import router
from api.schemas.limits import LimitPut
from celeriac.commands.cli import command
from tests.project.test_handler_docs import DOCS, blocks
from tracking.admission import job_limits
from tracking.admission.job_limits import Per
from tracking.db import Database
from tracking.settings import settings

PAGE = "limits.md"
TEXT = (DOCS / PAGE).read_text()


@pytest.mark.usefixtures("configured")
def test_the_commands_do_what_they_say(database: Database) -> None:
    """The commands of docs/limits.md set three limits, list them, and give an organization a weight for a while."""
    commands = [line for block in blocks(PAGE, "sh") for line in block.splitlines() if line.startswith("celeriac ")]
    results = [CliRunner().invoke(command, shlex.split(line)[1:]) for line in commands]
    settings.cache_clear()
    assert {line: result.output for line, result in zip(commands, results, strict=True) if result.exit_code} == {}
    with database.autocommit() as connection:
        found = job_limits.listed_limits(connection)
    platform, organization, key = sorted(found, key=lambda limit: [*Per].index(limit.per))
    assert (platform.concurrency, organization.concurrency, organization.rate, key.key_path) == (
        20,
        3,
        100,
        "account.id",
    )


def test_the_request_is_one_that_the_api_takes() -> None:
    """The body of the request in docs/limits.md is a limit."""
    said = re.search(r"-d '(.*?)'", TEXT, re.DOTALL)
    assert said is not None
    assert LimitPut.model_validate_json(json.dumps(json.loads(said[1]))).wanted.rate == 100


def test_the_handler_can_be_called() -> None:
    """The handler in docs/limits.md does what its assertion says."""
    exec(blocks(PAGE, "python")[0], {"__name__": "limits_page"})  # noqa: S102 - of our own page


def test_every_route_and_every_word_is_told() -> None:
    """Every address of the API for limits, and what a limit counts by, stands in docs/limits.md."""
    told = {f"{method} {route.path}" for route in router.routes for method in getattr(route, "methods", ())}  # type: ignore[attr-defined]
    assert {each for each in told if f"`{each}`" not in TEXT} == set()
    assert {each for each in Per if f"`{each}`" not in TEXT} == set()
