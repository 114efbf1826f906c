"""Work that is done elsewhere beside a live worker: never sent, given up when nobody reports, and documented."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from api.schemas import requests
from tests.live import LivePlatform
from tests.project.test_handler_docs import blocks
from tests.tracked import Tracked, check_rows, new_job
from tests.verifying import broken
from tracking import jobs
from tracking.admission.rule import UNLIMITED

TYPES = """
from tracking import external_types
from tracking.external_types import ExternalType
from tasks import app
with app.platform.database.autocommit() as connection:
    external_types.put(connection, ExternalType("ocr"), actor="operator")
"""
TRACK = "from tasks import app; print(app.track('llm_agent', organization='acme', user='u1').id)"


def test_it_is_given_up_and_never_run(platform: LivePlatform) -> None:
    """A live worker runs what is its own beside external jobs, fails abandoned ones, and sends none of them."""
    platform.run(TYPES)
    platform.environment["CELERIAC_TRACKED_TIMEOUT"] = "1"
    platform.start_worker()
    elsewhere = [platform.submit(name, organization="acme", user="u1") for name in ("llm_agent", "ocr", "generic")]
    run = platform.submit("noop")
    platform.wait_for(run, "succeeded")
    for job_id in elsewhere:
        job = platform.wait_for(job_id, "failed", within=30)
        assert (job.error_type, job.attempt, job.dispatched_at) == ("Abandoned", 0, None)
        assert platform.events(job_id) == ["created", "failed"]
    assert broken(platform.database) == {}
    with platform.database.autocommit() as connection:
        check_rows(Tracked(connection))


def test_what_was_sent_by_somebody_who_does_not_know_fails_with_that_reason(platform: LivePlatform) -> None:
    """A job that a program has sent without knowing that its type is external fails at the worker, its body not run."""
    with platform.database.autocommit() as connection:
        job = jobs.submit(connection, new_job(job_type="torch"), UNLIMITED).job
    platform.start_worker(CELERIAC_IMPORTS="tests.sample_handlers,tests.external_handlers")
    failed = platform.wait_for(job.id, "failed", within=30)
    assert (failed.attempt, failed.error_type) == (1, "RuntimeError")
    assert "done elsewhere" in str(failed.error_message)


def test_the_python_examples_of_the_page_run(platform: LivePlatform) -> None:
    """The Python examples of docs/external.md run, and the job has succeeded with the result that the page shows."""
    track, declare = blocks("external.md", "python")
    platform.run(track)
    (job,) = platform.jobs()
    assert (job.status, job.result, job.message) == ("succeeded", {"documentId": "d-17"}, "Page 3 of 3")
    platform.run(declare + "\nassert inspection.external and inspection.external_timeout == 600")


@pytest.mark.parametrize("body", [json.loads(block) for block in blocks("external.md", "json")], ids=str)
def test_the_requests_of_the_page_are_valid(body: dict[str, Any]) -> None:
    """Each body that docs/external.md shows is one that the API takes."""
    model = requests.NewJob if "jobType" in body else requests.JobChange
    assert (
        model.model_validate_json(json.dumps(body)).model_dump(by_alias=True, exclude_defaults=True).keys()
        == body.keys()
    )


def test_the_page_names_the_commands(platform: LivePlatform) -> None:
    """The commands of docs/external.md exist, with the options that it shows."""
    lines = re.sub(r" +#.*", "", blocks("external.md", "sh")[0]).split("\n")
    for line in filter(None, lines):
        assert platform.start(*line.split(), log="types.log").wait(30) == 0, platform.log("types.log")
