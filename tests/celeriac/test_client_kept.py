"""The HTTP client with schedules, templates, webhooks and saved views."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from api.schemas import answers as contract
from api.schemas import schedules, templates, webhooks
from api.schemas import views as view_contract
from celeriac.client import ApiError, answers, kept, views
from tests.api.calling import Caller
from tests.celeriac.test_client import client_of
from tests.project.test_handler_docs import blocks

HOOK = "https://hooks.example.com/jobs"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (kept.Schedule, schedules.Schedule),
        (kept.Outcome, schedules.Outcome),
        (kept.Template, templates.Template),
        (kept.Webhook, webhooks.Webhook),
        (kept.WebhookWithSecret, webhooks.WebhookWithSecret),
        (kept.Delivery, webhooks.Delivery),
        (kept.DeliveryWithTries, webhooks.DeliveryWithTries),
        (kept.Try, contract.Attempt),
        (views.View, view_contract.View),
    ],
)
def test_these_answers_have_the_fields_of_the_contract(
    ours: type[answers.Answer], theirs: type[contract.Answered]
) -> None:
    """The client's answers about what is kept have the fields that the API answers."""
    assert set(ours.model_fields) == set(theirs.model_fields)


def test_a_schedule_is_made_read_changed_and_removed(caller: Caller) -> None:
    """The client makes a schedule, reads it, changes its times, and removes it."""
    with client_of(caller) as calling:
        made = calling.create_schedule("nightly", job_type="open", cron="30 2 * * *", timezone="Europe/Berlin")
        assert (made.name, made.cron, made.catch_up, made.last_outcomes) == ("nightly", "30 2 * * *", "once", ())
        assert [each.id for each in calling.schedules()] == [made.id]
        assert calling.schedule(made.id) == made
        assert calling.next_times(made.id)[0] == made.next_at
        changed = calling.change_schedule(made.id, every_seconds=60, priority=3, metadata={"camelCase": {"as_is": 1}})
        assert (changed.every_seconds, changed.cron, changed.priority) == (60, None, 3)
        assert changed.metadata == {"camelCase": {"as_is": 1}}
        assert calling.change_schedule(made.id, priority=None).priority is None
        with pytest.raises(ApiError, match="schedule_exists"):
            calling.create_schedule("nightly", job_type="open", every_seconds=60)
        calling.remove_schedule(made.id)
        with pytest.raises(ApiError, match="schedule_not_found"):
            calling.schedule(made.id)


def test_a_schedule_is_paused_run_and_skipped(caller: Caller) -> None:
    """The client pauses and resumes a schedule, has a job of it made now, and skips its next due time."""
    with client_of(caller) as calling:
        made = calling.create_schedule("hourly", job_type="open", every_seconds=3600, paused=True)
        assert (made.paused, calling.next_times(made.id)) == (True, ())
        resumed = calling.resume_schedule(made.id)
        assert calling.pause_schedule(made.id).paused
        assert calling.resume_schedule(made.id).next_at is not None
        job = calling.run_schedule(made.id)
        assert calling.get(job.job_id).metadata["scheduleId"] == str(made.id)
        skipped = calling.skip_next(made.id)
        assert (skipped.next_at or resumed.created_at) > (resumed.next_at or resumed.created_at)
        found = list(calling.outcomes(made.id))
        assert {(each.outcome, each.by) for each in found} == {("job", "u1"), ("skipped", "u1")}
        assert [each.job_id for each in found if each.outcome == "job"] == [job.job_id]


def test_a_template_has_versions_and_jobs(caller: Caller) -> None:
    """The client keeps a template and its versions, and has jobs made of it, none twice under the same key."""
    with client_of(caller) as calling:
        made = calling.create_template(
            "my report", "guarded", payload={"kind": "small"}, schedule={"every_seconds": 60}
        )
        assert (made.version, made.schedule) == (1, {"everySeconds": 60})
        second = calling.change_template("my report", payload={"kind": "large"}, priority=4)
        assert (second.version, second.newest, calling.template("my report").priority) == (2, 2, 4)
        assert calling.template("my report", 1).payload == {"kind": "small"}
        assert [each.version for each in calling.template_versions("my report")] == [2, 1]
        assert [each.name for each in calling.templates()] == ["my report"]
        job, again = (calling.create_from("my report", {"count": 2}, idempotency_key="k") for _ in range(2))
        assert job == again
        assert calling.get(job.job_id).payload == {"kind": "large", "count": 2, "since": None}
        old = calling.create_from("my report", version=1, priority=9)
        assert (calling.get(old.job_id).payload["kind"], calling.get(old.job_id).priority) == ("small", 9)
        calling.remove_template("my report")
        with pytest.raises(ApiError, match="template_not_found"):
            calling.create_from("my report")


def test_a_webhook_is_made_changed_and_removed(caller: Caller) -> None:
    """The client makes a webhook, has its secret in the answer, changes it, and removes it."""
    with client_of(caller) as calling:
        made = calling.create_webhook(HOOK, events=["job.failed"], job_types=["open"])
        assert (made.events, made.job_types, made.secret.startswith("whsec_")) == (("job.failed",), ("open",), True)
        assert [each.id for each in calling.webhooks()] == [made.id]
        changed = calling.change_webhook(made.id, job_types=None, enabled=False)
        assert (changed.job_types, changed.enabled, changed.events) == (None, False, ("job.failed",))
        assert calling.webhook(made.id) == changed
        rotated = calling.rotate_secret(made.id)
        assert rotated.secret != made.secret
        assert rotated.former_secret_until is not None
        calling.remove_webhook(made.id)
        with pytest.raises(ApiError, match="webhook_not_found"):
            calling.webhook(made.id)


def test_the_ledger_of_a_webhook_is_read_and_a_message_sent_again(caller: Caller) -> None:
    """The client reads what a webhook was told, with each try, has a failed message sent again, and sends a test."""
    number = uuid4()
    webhook = caller.webhook(number)
    failed = caller.delivery(number, "failed", uuid4())
    caller.delivery(number, "succeeded", uuid4())
    with client_of(caller) as calling:
        assert len(list(calling.deliveries(webhook.id))) == 2
        assert [each.id for each in calling.deliveries(webhook.id, status="failed")] == [failed.id]  # type: ignore[arg-type]
        one = calling.delivery(webhook.id, failed.id)
        assert (one.event, one.tries[0].outcome, one.message["type"]) == ("job.completed", "failed", "job.completed")
        again = calling.redeliver(webhook.id, failed.id)
        assert calling.delivery(webhook.id, again).message_id == one.message_id
        assert calling.delivery(webhook.id, calling.test_webhook(webhook.id)).event == "webhook.test"


def test_a_view_is_saved_changed_opened_and_removed(caller: Caller) -> None:
    """The client saves a search under a name, changes and lists it, a colleague opens it, and it is removed."""
    with client_of(caller) as calling:
        failed = caller.job("failed")
        caller.job("succeeded")
        made = calling.save_view("broken", "status:failed")
        with pytest.raises(ApiError, match="view_exists"):
            calling.save_view("broken", "")
        renamed = calling.change_view(made.id, name="Broken ones")
        assert (renamed.name, renamed.search, renamed.user_id) == ("Broken ones", "status:failed", caller.user)
        assert calling.views() == (renamed,)
        with client_of(caller.but(user="u2")) as colleague:
            assert colleague.view(made.id) == renamed
            assert colleague.views() == ()
        assert [job.id for job in calling.jobs(search=renamed.search)] == [failed.id]
        assert calling.change_view(made.id, search="").search == ""
        calling.remove_view(made.id)
        with pytest.raises(ApiError, match="view_not_found"):
            calling.view(made.id)


@pytest.mark.parametrize("page", ["schedules.md", "templates.md", "webhooks.md"])
def test_the_examples_run(caller: Caller, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python example of each page runs against an API, and prints what it says."""
    example = next(block for block in blocks(page, "python") if "celeriac.client" in block)
    token = caller.headers["Authorization"].removeprefix("Bearer ")
    example = example.replace("http://127.0.0.1:8000", caller.api.url)
    names: dict[str, Any] = {"token": token}
    caller.post("/v1/templates", {"name": "failed-jobs", "jobType": "export_report", "payload": {"reportType": "jobs"}})
    exec(example, names)  # noqa: S102 - our own text
    assert capsys.readouterr().out.strip()
