"""What a job belongs to, drawn at its page: the workflow, the canvas, or what jobs have sent."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID, uuid4

from playwright.sync_api import expect

from api.dashboard.layers import MOST, Node, graph, of_canvas
from tests.api.calling import Api, Caller
from tests.api.dashboard.conftest import SignIn, Window
from tests.tracked import new_job
from tracking import successors
from tracking.admission.rule import UNLIMITED
from tracking.models import NewJob, Owner, Scope
from tracking.reads.graphs import GraphEdge, GraphNode, JobGraph
from tracking.states import Status, When


def canvas(caller: Caller) -> dict[str, UUID]:
    """A job, one that follows it, two that this has sent as a group, and the body of their chord."""
    owner, root = Owner(caller.organization, caller.user), uuid4()

    def part(job_type: str, **said: Any) -> NewJob:
        return new_job(owner=owner, job_type=job_type, root_id=root, **said)

    second, body = part("clean", follows=root, parent_id=root), part("report", follows_group="g")
    first = part("load", id=root, successors=[second, body])
    with caller.api.database.begin() as connection:
        successors.submit(connection, first, UNLIMITED, scope=Scope(caller.organization, None))
    made = {"load": root, "clean": second.id, "report": body.id}
    for name in ("orders", "customers"):
        made[name] = caller.job(job_type=name, group_id="g", root_id=root, parent_id=second.id).id
    return made


def drawn(page: str) -> dict[str, str]:
    """The boxes of a page: the address of each by the name of its job."""
    found = re.findall(r'<a href="(/jobs/[^"]+)" aria-label="(\w+): \w+"', page)
    return {name: address for address, name in found}


def test_the_canvas_of_a_job_is_drawn_at_its_page(caller: Caller, reading: SignIn) -> None:
    """Each job of a canvas has a box that leads to it, the visited one is marked, and lines say what has sent what."""
    parts = canvas(caller)
    client = reading(caller)
    for name in ("load", "report"):
        page = client.get(f"/jobs/{parts[name]}").text
        assert drawn(page) == {each: f"/jobs/{job_id}" for each, job_id in parts.items()}
        assert re.findall(r'aria-label="(\w+): \w+" aria-current="true"', page) == [name]
        assert (page.count("when-chain"), page.count("when-chord"), page.count("when-sent")) == (1, 2, 2)
        assert "With what was sent before and after it" in page
        assert drawn(client.get(f"/jobs/{parts[name]}?part=body").text)


def test_a_job_of_a_workflow_leads_to_it(caller: Caller, reading: SignIn) -> None:
    """The page of a job of a workflow has its name and its drawing, as the page of the workflow has it."""
    jobs = {"first": {"jobType": "open"}, "alarm": {"jobType": "open", "after": [{"key": "first", "when": "failed"}]}}
    made = caller.post("/v1/workflows", {"name": "nightly <b>", "jobs": jobs}).json()
    page = reading(caller).get(f"/jobs/{made['jobs']['alarm']}").text
    assert f'In the workflow <a href="/workflows/{made["workflowId"]}">nightly &lt;b&gt;</a>' in page
    assert drawn(page) == {key: f"/jobs/{job_id}" for key, job_id in made["jobs"].items()}
    assert "if it fails" in page


def test_a_job_alone_and_what_others_sent_are_not_drawn(api: Api, caller: Caller, reading: SignIn) -> None:
    """A job that belongs to nothing has no drawing, and jobs of other users and organizations are in none."""
    alone = caller.job()
    caller.but(user="u2").job(root_id=alone.id, parent_id=alone.id)
    api.caller().job(root_id=alone.id, parent_id=alone.id)
    assert "card graph" not in reading(caller).get(f"/jobs/{alone.id}").text
    everybody = reading(caller.but(permissions=(*caller.permissions, "jobs.view_all")))
    assert len(re.findall(r'class="node ', everybody.get(f"/jobs/{alone.id}").text)) == 2


def test_too_many_to_draw_are_said_to_be(caller: Caller, reading: SignIn) -> None:
    """Of a canvas of more jobs than are drawn the page says so, and is shown."""
    root = caller.job()
    with caller.api.database.begin() as connection:
        owner = Owner(caller.organization, caller.user)
        new = [new_job(owner=owner, root_id=root.id, parent_id=root.id) for _ in range(MOST)]
        successors.submit_all(connection, new, UNLIMITED, scope=lambda _: Scope(caller.organization, None))
    page = reading(caller).get(f"/jobs/{root.id}").text
    assert "These are too many to draw." in page
    assert "card graph" not in page


def test_rows_that_wait_for_one_another_are_drawn_too() -> None:
    """A circle, a line to itself and two reasons for one line: whatever rows say is drawn, each job in a box."""
    ids = [UUID(int=number) for number in range(3)]
    edges = [
        GraphEdge(ids[0], ids[1], "dependency", When.FAILED),
        GraphEdge(ids[0], ids[1], "sent"),
        GraphEdge(ids[1], ids[2], "chain"),
        GraphEdge(ids[2], ids[0], "chain"),
        GraphEdge(ids[2], ids[2], "chain"),
    ]
    nodes = [GraphNode(each, "t", Status.QUEUED, None, None) for each in ids]
    found = graph(of_canvas(JobGraph(ids[0], nodes, edges, is_cut=False)))
    assert found is not None
    assert len({(box.x, box.y) for box in found.boxes}) == 3
    assert sorted(line.kind for line in found.lines) == ["chain", "chain", "chain", "failed"]


def test_the_longest_row_of_jobs_is_drawn() -> None:
    """A chain of as many jobs as are drawn, named from its end, has a layer for each of them."""
    row = [
        Node(str(number), "t", "t", None, "queued", [(str(number - 1), "chain")] if number else [])
        for number in range(MOST)
    ]
    found = graph(row[::-1])
    assert found is not None
    assert len({box.x for box in found.boxes}) == MOST


def test_the_drawing_is_fit_to_be_seen(caller: Caller, window: Window) -> None:
    """A browser shows the drawing of a canvas at a job, and its boxes and its workflow lead to their pages."""
    parts = canvas(caller)
    page = window.sign_in(caller)
    page.goto(f"{caller.api.url}/jobs/{parts['orders']}")
    expect(page.locator(".graph .node")).to_have_count(5)
    expect(page.locator(".graph .node.here")).to_have_count(1)
    window.picture("canvas")
    page.locator(".graph a[aria-label='report: queued']").click()
    page.wait_for_url(f"{caller.api.url}/jobs/{parts['report']}")
    made = caller.post(
        "/v1/workflows",
        {"name": "nightly", "jobs": {"a": {"jobType": "open"}, "b": {"jobType": "open", "after": [{"key": "a"}]}}},
    ).json()
    page.goto(f"{caller.api.url}/jobs/{made['jobs']['b']}")
    expect(page.locator(".graph .node")).to_have_count(2)
    window.picture("part")
    page.get_by_role("link", name="nightly").click()
    page.wait_for_url(f"{caller.api.url}/workflows/{made['workflowId']}")
