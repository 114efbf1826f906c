"""docs/webhooks.md: its examples are true, and its tables are those of the API."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from uuid import UUID

from api.routes.webhooks import router
from api.schemas.webhooks import NewWebhook
from celeriac.commands.cli import command
from tasks.handlers.webhook_delivery import DELAYS
from tasks.webhooks import messages
from tests.project.test_handler_docs import DOCS, blocks
from tracking.reads.tail import Happening
from tracking.states import Event, Status
from tracking.webhooks import MOST, Happened

TEXT = (DOCS / "webhooks.md").read_text()


def test_the_command_makes_a_webhook() -> None:
    """The body of the command is a webhook for two events of one type."""
    body = re.search(r"-d '(.*?)'", TEXT, re.DOTALL)
    assert body is not None
    wanted = NewWebhook.model_validate_json(body[1]).wanted
    assert (wanted.events, wanted.job_types) == (("job.completed", "job.failed"), ("export_report",))


def test_the_message_is_what_is_sent() -> None:
    """The example is what is made of such a success."""
    [example] = [json.loads(each) for each in blocks("webhooks.md", "json")]
    data = example["data"]
    happening = Happening(
        1, UUID(data["jobId"]), "acme", "u1", None, "export_report", Event.COMPLETED, Status.SUCCEEDED, 1, "worker-1",
        {"duration": 1200},
    )  # fmt: skip
    at = datetime(2026, 11, 28, 21, tzinfo=UTC)
    assert messages.message(happening, Happened(at, has_result=True, result={"recordCount": 3})) == example


def test_every_field_event_and_route_is_told() -> None:
    """Fields, events, addresses, waits and limits stand in docs/webhooks.md."""
    fields = {field.alias for field in NewWebhook.model_fields.values()}
    assert {word for word in {*fields, *messages.EVENTS, messages.TEST} if f"`{word}`" not in TEXT} == set()
    assert {getattr(route, "path", "") for route in router.routes} == set(re.findall(r"[A-Z] (/v1/webhooks\S*)`", TEXT))
    words = " ".join(TEXT.split())
    waits = [_in_words(delay) for delay in DELAYS]
    assert f"after {', '.join(waits[:-1])} and {waits[-1]}" in words
    assert f"{MOST} webhooks at most" in words


def test_the_worker_for_deliveries_is_one() -> None:
    """The command for a worker of its own has options that there are."""
    line = next(line for line in TEXT.splitlines() if line.startswith("celeriac worker"))
    _, subcommand, *arguments = line.split()
    with command.found(subcommand).make_context(subcommand, arguments) as context:
        assert context.params["queues"] == ("webhooks",)


def _in_words(seconds: float) -> str:
    size, unit = next(each for each in ((3600, "h"), (60, "min"), (1, "s")) if seconds >= each[0])
    return f"{seconds / size:g} {unit}"
