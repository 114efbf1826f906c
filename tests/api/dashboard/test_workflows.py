"""The pages of workflows: without a script, and drawn in a browser."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from playwright.sync_api import expect

from api.dashboard.layers import MOST, graph, of_workflow
from tests.api.calling import EVERYTHING, Caller
from tests.api.dashboard.conftest import SignIn, Window
from tests.tracked import Tracked
from tests.workflowing import Flow, node
from tracking.admission import line
from tracking.admission.rule import UNLIMITED
from tracking.states import Hold
from tracking.workflows.values import NodeState

SAME = {"Sec-Fetch-Site": "same-origin"}
OPEN = {"jobType": "open"}
JOBS: dict[str, Any] = {
    "extract": OPEN,
    "orders": {**OPEN, "after": [{"key": "extract"}]},
    "customers": {**OPEN, "after": [{"key": "extract"}]},
    "join": {**OPEN, "after": [{"key": "orders"}, {"key": "customers"}]},
    "report": {**OPEN, "after": [{"key": "join"}]},
    "alarm": {**OPEN, "after": [{"key": "join", "when": "failed"}]},
    "tidy-up-the-temporary-tables": {**OPEN, "after": [{"key": "join", "when": "finished"}]},
}


def created(caller: Caller) -> dict[str, Any]:
    """A workflow of the caller."""
    answer: dict[str, Any] = caller.post("/v1/workflows", {"name": "nightly <figures>", "jobs": JOBS}).json()
    return answer


def run(caller: Caller, job_id: str, kind: Any = "succeeded") -> None:
    """Run one attempt of a job, and let happen what follows."""
    with caller.api.database.autocommit() as connection:
        tracked = Tracked(connection)
        with caller.api.database.begin() as admitting:
            line.admit(admitting, caller.organization, UNLIMITED, 100)
        tracked.end(tracked.start(tracked.get(UUID(job_id))), kind)
        Flow(caller.api.database, tracked, UUID(job_id)).follow()


def state(key: str, *after: str) -> NodeState:
    found = node(key, *after)
    return NodeState(found, UUID(int=1), 1, "queued", False, Hold.DEPENDENCY, 0, False, None, None, None)  # noqa: FBT003 - in the order of its fields


def test_jobs_stand_in_layers_after_what_they_wait_for() -> None:
    """Each box stands right of all that its job waits for, no two overlap, and all lie within the drawing."""
    jobs = [state("a"), state("b"), state("c", "a"), state("d", "a", "b"), state("e", "c", "b!"), state("f", "e?")]
    drawn = graph(of_workflow(jobs))
    assert drawn is not None
    at = {box.node.key: (box.x, box.y) for box in drawn.boxes}
    assert all(at[after.key][0] < at[job.node.key][0] for job in jobs for after in job.node.after)
    assert len(set(at.values())) == len(jobs)
    assert all(0 < x < drawn.width - 176 and 0 < y < drawn.height - 50 for x, y in at.values())
    assert len(drawn.lines) == 6
    assert graph(of_workflow([state(f"n{number}") for number in range(MOST + 1)])) is None


def test_workflows_are_shown_and_their_buttons_work(caller: Caller, reading: SignIn) -> None:
    """The pages have the jobs of a workflow with what they wait for as text, and the buttons do what the API does."""
    answer = created(caller)
    address = f"/workflows/{answer['workflowId']}"
    client, stranger = reading(caller), reading(caller.but(user="u2"))
    viewer = reading(caller.but(permissions=("jobs.view_jobs",)))
    assert "nightly &lt;figures&gt;" in client.get("/workflows").text
    assert "nightly" not in stranger.get("/workflows").text
    assert stranger.get(address).status_code == 404
    page = client.get(address).text
    for text in (*JOBS, "join (failed)", "at any end", "if it fails", f"/jobs/{answer['jobs']['join']}"):
        assert text in page, text
    assert "Retry the whole" not in page
    assert "<form" not in viewer.get(f"{address}?part=body").text
    assert viewer.post(f"{address}/cancel", headers=SAME).status_code == 403
    assert client.post(f"{address}/cancel", headers=SAME).headers["location"] == f"{address}?done=cancelled"
    assert "Cancelled by u1" in client.get(address).text
    assert "nightly" in client.get("/workflows?status=cancelled").text
    assert "nightly" not in client.get("/workflows?status=running").text
    assert client.get("/workflows?status=nonsense").status_code == 422
    assert client.post(f"{address}/retry", data={"part": "half"}, headers=SAME).status_code == 422
    assert client.post(f"{address}/retry", data={"part": "whole"}, headers=SAME).headers["location"].endswith("whole")
    assert "run 2" in client.get(address).text
    assert client.post(f"{address}/retry", data={"part": "failed"}, headers=SAME).status_code == 409


def test_a_workflow_is_drawn_as_a_graph(caller: Caller, window: Window) -> None:
    """A browser shows each job of a workflow as a box that leads to it, and nothing is complained of."""
    boss = caller.but(permissions=(*EVERYTHING, "jobs.view_all"))
    answer = created(boss)
    ends = {**dict.fromkeys(("extract", "orders", "customers"), "succeeded"), "join": "failed"}
    for key, kind in ends.items():
        run(boss, answer["jobs"][key], kind)
    page = window.sign_in(boss)
    page.goto(f"{boss.api.url}/workflows/{answer['workflowId']}")
    expect(page.locator(".graph .node")).to_have_count(len(JOBS))
    expect(page.locator(".graph .node.failed")).to_have_count(1)
    expect(page.locator(".graph .node.skipped")).to_have_count(1)
    window.picture("workflow")
    page.locator(".graph a[aria-label='join: failed']").click()
    page.wait_for_url(f"{boss.api.url}/jobs/{answer['jobs']['join']}")
    page.goto(f"{boss.api.url}/workflows")
    expect(page.get_by_text("nightly <figures>")).to_be_visible()
    window.picture("workflows")
    assert window.complaints == []


def test_a_large_drawing_is_seen_in_part_and_as_a_whole(caller: Caller, window: Window) -> None:
    """A large drawing takes a part of the window and is made small at a wish; a job's page shows where that job is."""
    parts = {f"part{number}": {"jobType": "open", "after": [{"key": "first"}]} for number in range(60)}
    answer = caller.post("/v1/workflows", {"name": "wide", "jobs": {"first": {"jobType": "open"}, **parts}}).json()
    page = window.sign_in(caller)
    page.goto(f"{caller.api.url}/workflows/{answer['workflowId']}")
    drawing, boxes = page.locator("#graph"), page.locator("#graph .node")
    height = page.viewport_size["height"] if page.viewport_size else 0
    assert drawing.evaluate("each => each.clientHeight") < height
    expect(boxes.filter(has_text="first")).to_be_in_viewport(ratio=1)
    expect(boxes.filter(has_text="part59")).not_to_be_in_viewport()
    window.picture("workflow-large")
    page.get_by_label("half").check()
    assert boxes.first.evaluate("each => each.getBoundingClientRect().height") < 30
    page.get_by_label("as a whole").check()
    assert drawing.evaluate("each => each.scrollHeight - each.clientHeight") <= 0
    run(caller, answer["jobs"]["first"], "succeeded")
    expect(page.locator("#graph .node.succeeded")).to_have_count(1)  # it is live
    expect(page.get_by_label("as a whole")).to_be_checked()
    window.picture("workflow-whole")
    page.goto(f"{caller.api.url}/jobs/{answer['jobs']['part59']}")
    drawing.scroll_into_view_if_needed()
    expect(boxes.filter(has_text="part59")).to_be_in_viewport(ratio=1)
