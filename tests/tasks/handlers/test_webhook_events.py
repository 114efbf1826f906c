"""Webhooks are told of workflows and schedules: each event once, and of no other organization."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from tasks.webhooks.messages import EVENTS, MOST_BYTES, encoded
from tests.receiving import Receiver
from tests.scheduled import Scheduled, job_of
from tests.tasks.handlers.test_webhook_deliveries import follow, listen, names, own, payload_of, receiver, told
from tests.tracked import ACME, Tracked
from tests.workflowing import U1, Flow, create, node
from tracking import webhooks
from tracking.admission.rule import UNLIMITED
from tracking.db import Database
from tracking.schedules import firing, keeping

__all__ = ["own", "receiver"]

WHOLE = tuple(name for name in EVENTS if not name.startswith("job."))


def happen(own: Tracked, pool: Database) -> tuple[Flow, Any]:
    """A workflow of a project that succeeds, and a schedule of another project, which somebody runs and skips once."""
    flow = create(pool, own, node("a"), project_id="p1")
    flow.run("a")
    flow.conclude()
    scheduled = Scheduled(pool)
    schedule = scheduled.create(project_id="p2")
    scheduled.do(firing.run_now, schedule.id, ACME, job_of, UNLIMITED, by=U1)
    scheduled.do(keeping.skip_next, schedule.id, ACME, U1)
    return flow, schedule


def test_each_event_is_told_once(own: Tracked, receiver: Receiver, pool: Database) -> None:
    """A webhook is told of the start and end of a workflow and of what became of due times, whoever leads, once."""
    listen(own, receiver, events=WHOLE)
    before = webhooks.position(own.connection)
    flow, schedule = happen(own, pool)
    follow()
    own.connection.execute(text("UPDATE webhook_position SET history_id = :before"), {"before": before})
    follow()  # another leader, which does not know what the one before it has made
    found = told(own)
    assert names(found) == ["workflow.started", "workflow.completed", "schedule.fired", "schedule.skipped"]
    assert {each.user_id for each in found} == {str(flow.id), str(schedule.id)}
    end = found[1].payload["message"]
    assert end["type"] == "workflow.completed"
    assert 0 <= end["data"].pop("durationMs") < 60_000
    assert end["data"] == {
        "workflowId": str(flow.id), "organizationId": "acme", "projectId": "p1", "userId": "u1",
        "name": "nightly", "run": 1, "jobs": {"succeeded": 1},
    }  # fmt: skip
    fired = found[2].payload["message"]["data"]
    assert (fired["scheduleId"], fired["jobType"], fired["by"]) == (str(schedule.id), "count_words", "u1")
    [made] = [job.id for job in own.all() if job.metadata.get("scheduleId") == str(schedule.id)]
    assert fired["jobId"] == str(made)
    assert payload_of(found[0]).event == "workflow.started"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"events": ("workflow.completed", "job.completed")}, ["job.completed", "workflow.completed"]),
        ({"events": WHOLE, "project_id": "p1"}, ["workflow.started", "workflow.completed"]),
        ({"events": WHOLE, "project_id": "p2"}, ["schedule.fired", "schedule.skipped"]),
        ({"events": WHOLE, "job_types": ("other",)}, ["workflow.started", "workflow.completed"]),
        ({"events": ("schedule.fired",), "job_types": ("count_words",)}, ["schedule.fired"]),
        ({"organization": "globex", "events": WHOLE}, []),
    ],
)
def test_what_is_wanted_is_told(
    own: Tracked, receiver: Receiver, pool: Database, wanted: dict[str, Any], expected: list[str]
) -> None:
    """Names, project and organization narrow what is told; types those of schedules, and no workflow's."""
    listen(own, receiver, **wanted)
    happen(own, pool)
    follow()
    assert names([*told(own), *told(own, "globex")]) == expected


def test_a_message_of_the_largest_workflow_is_small(own: Tracked, receiver: Receiver, pool: Database) -> None:
    """Whatever a name, a reason and keys may be, the message of an end is no larger than Standard Webhooks advises."""
    listen(own, receiver, events=WHOLE)
    flow = create(pool, own, *(node(f"{number:02}" + "k" * 98) for number in range(20)), name="\U0001f96c" * 200)
    for key in list(flow.states):
        flow.run(key, "failed")
    flow.conclude()
    follow()
    failed = told(own)[-1].payload["message"]
    assert len(failed["data"]["failed"]) == 10
    assert len(encoded(failed)) < MOST_BYTES
