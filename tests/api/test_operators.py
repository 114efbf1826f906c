"""Operators reach beyond their organization: by `?organization=`, into another one or all of them, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api.calling import EVERYTHING, OF_GUARDED, Api, Caller, problem
from tests.api.conftest import serving
from tests.servers import Servers, new_database
from tests.tracked import Tracked
from tracking.admission.rule import UNLIMITED
from tracking.models import Owner
from tracking.operations import work
from tracking.operations.work import next_one

NO_OPERATOR = tuple(name for name in EVERYTHING if name != "jobs.manage_platform")
SMALL = {"jobType": "guarded", "payload": {"kind": "small"}}
LISTS = ("/v1/jobs", "/v1/jobs/recent", "/v1/jobs/history")
# What is read without an organization, and why it is no list of what organizations have.
NO_LISTS = {
    **dict.fromkeys(("/healthz", "/livez", "/readyz", "/metrics", "/v1/doctor"), "the state of the platform"),
    **dict.fromkeys(("/v1/overview", "/v1/queues", "/v1/workers", "/v1/limits"), "all organizations, for operators"),
    "/v1/denied-tokens": "all organizations, for operators",
    "/v1/schedules/clean-ups": "what the platform does by itself",
    "/v1/job-types": "what this installation can do; circuits and pauses are those of one organization",
    "/v1/organization": "one organization; the overview has all",
    "/v1/views": "a person's own menu",
    "/v1/events": "a stream",
}


@pytest.fixture(scope="module")
def alone(servers: Servers, api_broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API whose database has the organizations of these tests alone."""
    with (
        new_database(servers) as url,
        serving(url, api_broker_url, tmp_path_factory.mktemp("operators")) as running,
    ):
        yield running


@pytest.fixture
def operator(alone: Api) -> Caller:
    """Somebody of an organization without jobs."""
    return alone.caller("operators", "olga", permissions=(*EVERYTHING, "jobs.view_all", "jobs.delete_jobs"))


@pytest.fixture
def tenants(alone: Api) -> tuple[Caller, Caller]:
    """Users of two organizations, which have no jobs yet."""
    with alone.database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
        connection.exec_driver_sql("DELETE FROM operations")
    return alone.caller(), alone.caller()


def ids(caller: Caller, path: str, **query: Any) -> list[str]:
    """The ids of the jobs that a list answers with."""
    answer = caller.get(path, **query)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return [job["id"] for job in body.get("jobs", body.get("history"))]


@pytest.mark.parametrize(
    ("what", "made"),
    [
        ("schedules", {**SMALL, "everySeconds": 3600, "paused": True}),
        ("templates", SMALL),
        ("workflows", {"jobs": {"a": SMALL}}),
        ("webhooks", None),
        ("files", None),
    ],
)
def test_what_is_kept_by_all_organizations_is_listed_page_by_page(
    what: str, made: dict[str, Any] | None, operator: Caller, tenants: tuple[Caller, Caller]
) -> None:
    """What organizations keep is listed in pages for all of them, each thing once, and only to operators."""
    path, first, second = f"/v1/{what}", *sorted(tenants, key=lambda each: each.organization)
    for tenant, name in ((second, "b"), (first, "a"), (second, "a"), (first, "c")):
        keep(tenant, what, name, made)
    wanted = [(first, "a"), (first, "c"), (second, "a"), (second, "b")]
    if what == "workflows":
        wanted = [(first, "c"), (second, "a"), (first, "a"), (second, "b")]
    if made is None:
        wanted = [(second, "b"), (first, "a"), (second, "a"), (first, "c")]
        wanted = wanted[::-1] if what == "files" else wanted
    seen, cursor = list[tuple[str, str]](), dict[str, Any]()
    while True:
        body = operator.get(path, organization="*", limit=3, **cursor).json()
        assert len(body[what]) <= 3, body
        seen += [(each["organizationId"], each.get("name", each.get("description"))) for each in body[what]]
        if body["nextCursor"] is None:
            break
        cursor = {"cursor": body["nextCursor"]}
    ours = {each.organization for each in tenants}
    assert [each for each in seen if each[0] in ours] == [(each.organization, name) for each, name in wanted]
    assert len(set(seen)) == len(seen)
    problem(operator.get(path, organization="*", cursor="9:no"), 422, "invalid_request")
    problem(first.but(permissions=NO_OPERATOR).get(path, organization="*"), 403, "permission_missing")


def keep(tenant: Caller, what: str, name: str, made: dict[str, Any] | None) -> None:
    """Have an organization keep something under a name; `made` None: what has none otherwise."""
    if what == "files":
        answer = tenant.api.client.post("/v1/files", params={"name": name}, content=b"a\n1\n", headers=tenant.headers)
    elif what == "webhooks":
        answer = tenant.post("/v1/webhooks", {"url": "https://hooks.example.com/", "description": name})
    else:
        answer = tenant.post(f"/v1/{what}", {"name": name, **(made or {})})
    assert answer.status_code in (201, 202), answer.text


def test_every_list_is_asked_of_one_organization_or_of_all(alone: Api, operator: Caller) -> None:
    """Every list of what organizations have takes `organization`, a name or `*`, and no list is forgotten."""
    document = alone.client.get("/openapi.json").json()
    lists = [path for path, methods in document["paths"].items() if "get" in methods and "{" not in path]
    asked = {path: operator.get(path, organization="*") for path in lists if path not in NO_LISTS}
    assert {path: answer.text for path, answer in asked.items() if answer.status_code != 200} == {}
    for path in asked:
        taken = {each["name"]: each["schema"] for each in document["paths"][path]["get"]["parameters"]}
        assert "(?!\\*$)" not in str(taken["organization"]), f"{path} says that it takes no *"
        assert operator.get(path, organization="somebody").status_code == 200
        problem(operator.but(permissions=NO_OPERATOR).get(path, organization="*"), 403, "permission_missing")
    assert set(NO_LISTS) <= set(lists), "a route that is no more"


def test_lists_of_all_organizations_are_in_the_order_of_any_list(
    operator: Caller, tenants: tuple[Caller, Caller]
) -> None:
    """The lists of all organizations hold the jobs of each, in the same order as a list of one does."""
    made = [tenants[number % 2].job("failed", priority=number) for number in range(6)]
    newest = [str(job.id) for job in reversed(made)]
    everywhere: Any = {"organization": "*"}
    assert ids(operator, "/v1/jobs", **everywhere) == newest
    assert ids(operator, "/v1/jobs/history", **everywhere) == newest
    assert ids(operator, "/v1/jobs/recent", **everywhere) == newest, "more urgent first"
    active = [tenants[number % 2].job(priority=number) for number in (1, 8, 3)]
    recent = ids(operator, "/v1/jobs/recent", **everywhere)
    assert recent == [*(str(active[number].id) for number in (1, 2, 0)), *newest]
    assert ids(operator, "/v1/jobs") == [], "its own"
    page = operator.get("/v1/jobs", page=2, pageSize=4, **everywhere).json()
    assert ([job["id"] for job in page["jobs"]], page["total"], page["totalPages"]) == (newest[1:5], 9, 3)
    seen, cursor = list[str](), ""
    while cursor is not None:
        found = operator.get("/v1/jobs", pageSize=2, cursor=cursor, status="failed", **everywhere).json()
        seen, cursor = [*seen, *(job["id"] for job in found["jobs"])], found["nextCursor"]
    assert seen == newest


def test_filters_and_searches_reach_all_organizations(operator: Caller, tenants: tuple[Caller, Caller]) -> None:
    """Filters, ids and words find the jobs of all organizations that match, and no others."""
    first, second = (tenant.job("failed", job_type="export", project_id="p") for tenant in tenants)
    other = tenants[0].job(job_type="other")
    both = {str(first.id), str(second.id)}
    for query in ({"jobType": "export"}, {"q": "broken"}, {"q": "xport status:failed"}, {"projectId": "p"}):
        assert set(ids(operator, "/v1/jobs", organization="*", **query)) == both, query
    assert ids(operator, "/v1/jobs", organization="*", ids=str(other.id)) == [str(other.id)]
    assert ids(operator, "/v1/jobs", organization="*", q="othe") == [str(other.id)]
    assert set(ids(operator, "/v1/projects/p/jobs", organization="*")) == both


def test_one_other_organization_is_read_as_its_own_people_read_it(
    operator: Caller, tenants: tuple[Caller, Caller]
) -> None:
    """With the name of an organization an operator reads what its people read, of all of its users."""
    mine, theirs = tenants
    job, of_another = mine.job("failed"), mine.but(user="u2").job()
    theirs.job()
    name = mine.organization
    for path in LISTS[:2]:
        assert set(ids(operator, path, organization=name)) == {str(job.id), str(of_another.id)}
    stats = operator.get("/v1/jobs/stats", organization=name).json()
    assert (stats["total"], stats["pending"], stats["failed"]) == (2, 1, 1)
    wide = mine.but(permissions=(*EVERYTHING, "jobs.view_all"))
    for path in (f"/v1/jobs/{job.id}", f"/v1/jobs/{job.id}/status", f"/v1/jobs/{job.id}/explain"):
        shown = operator.get(path, organization=name)
        assert (shown.status_code, shown.json()) == (200, wide.get(path).json())
        assert operator.get(path, organization="*").json() == shown.json()
        problem(operator.get(path), 404, "job_not_found")
        problem(operator.get(path, organization=theirs.organization), 404, "job_not_found")


def test_stats_of_all_organizations_are_their_sum(operator: Caller, tenants: tuple[Caller, Caller]) -> None:
    """The counts of all organizations are the sums of those of each."""
    for number, state in enumerate(("queued", "running", "retrying", "succeeded", "failed", "cancelled", "failed")):
        tenants[number % 2].job(state)
    everywhere = operator.get("/v1/jobs/stats", organization="*").json()
    each = [operator.get("/v1/jobs/stats", organization=tenant.organization).json() for tenant in tenants]
    for name in ("total", "totalActive", "pending", "running", "retrying", "completed", "failed", "cancelled"):
        assert everywhere[name] == sum(stats[name] for stats in each), name
    assert everywhere["failed"] == 2
    assert operator.get("/v1/jobs/stats", organization="*", window="all").json()["total"] == 7


@pytest.mark.parametrize("wanted", ["*", "globex"])
@pytest.mark.parametrize(
    "path",
    [*LISTS, "/v1/jobs/stats", "/v1/bulk", "/v1/audit", f"/v1/jobs/{UUID(int=1)}", f"/v1/jobs/{UUID(int=1)}/explain"],
)
def test_nobody_else_reaches_beyond_their_organization(alone: Api, path: str, wanted: str) -> None:
    """Without jobs.manage_platform another organization is denied with 403, and the attempt is in the audit."""
    caller = alone.caller(permissions=(*NO_OPERATOR, "jobs.view_all"))
    refused = problem(caller.get(path, organization=wanted), 403, "permission_missing")
    assert "jobs.manage_platform" in refused["detail"]
    (entry,) = caller.get("/v1/audit").json()["entries"]
    assert (entry["action"], entry["outcome"], entry["code"]) == ("organization.reach", "denied", "permission_missing")
    assert (entry["actor"], entry["detail"]["organization"]) == ("u1", wanted)


def test_the_own_organization_may_be_named_by_everybody(alone: Api) -> None:
    """Whoever names their own organization asks for nothing beyond it, and sees their own jobs alone."""
    caller = alone.caller(permissions=NO_OPERATOR)
    job = caller.job()
    caller.but(user="u2").job()
    assert ids(caller, "/v1/jobs", organization=caller.organization) == [str(job.id)]


def test_an_operator_without_the_permission_to_read_reads_nothing(alone: Api) -> None:
    """jobs.manage_platform alone does not replace the permission that a route needs."""
    caller = alone.caller(permissions=("jobs.manage_platform",))
    problem(caller.get("/v1/jobs", organization="*"), 403, "permission_missing")


def test_no_token_is_of_all_organizations(alone: Api) -> None:
    """A token whose organization is a star, or empty, is refused: these stand for all of them."""
    for name in ("*", ""):
        problem(alone.caller().but(organization=name).get("/v1/jobs"), 401, "token_invalid")


def test_what_an_operator_does_elsewhere_is_in_that_organizations_audit(
    operator: Caller, tenants: tuple[Caller, Caller]
) -> None:
    """An operator cancels and retries a job of another organization, whose audit has it without their name."""
    job = tenants[0].job(max_retries=3)
    path = f"/v1/jobs/{job.id}"
    problem(operator.post(f"{path}/cancel"), 404, "job_not_found")
    assert operator.post(f"{path}/cancel?organization=*").status_code == 200
    assert operator.post(f"{path}/retry?organization={tenants[0].organization}").status_code == 200
    assert tenants[0].find(job.id).status == "queued"
    entries = tenants[0].but(permissions=NO_OPERATOR).get("/v1/audit", target=str(job.id)).json()["entries"]
    assert [(each["action"], each["actor"]) for each in entries] == [("job.retry", None), ("job.cancel", None)]
    seen, *_ = operator.get("/v1/audit", organization="*", target=str(job.id)).json()["entries"]
    assert (seen["actor"], seen["organizationId"]) == ("olga", tenants[0].organization)


def test_the_name_of_an_operator_shows_nowhere_in_the_organization_that_they_reach(
    operator: Caller, tenants: tuple[Caller, Caller]
) -> None:
    """Whatever an operator does in another organization, nothing that its people read has their name."""
    name, tenant = tenants[0].organization, tenants[0].but(permissions=(*NO_OPERATOR, "jobs.view_all"))
    jobs = [tenant.job(max_retries=9) for _ in range(2)]
    schedule, _, hook = tenant.schedule(uuid4(), "nightly"), tenant.template(uuid4(), "small"), tenant.webhook(uuid4())
    flow = tenant.post("/v1/workflows", {"name": "flow", "jobs": {"a": SMALL}}).json()["workflowId"]
    tenant.job("failed", job_type="guarded")
    cancel_all = {"action": "cancel", "filter": {"status": ["queued"]}}
    asked: list[tuple[str, str, Any]] = [
        *(("POST", f"/v1/jobs/{jobs[0].id}/{verb}", None) for verb in ("cancel", "retry", "cancel")),
        *(("POST", f"/v1/schedules/{schedule.id}/{verb}", None) for verb in ("skip-next", "run", "pause")),
        ("POST", "/v1/schedules", {"name": "late", **SMALL, "everySeconds": 3600, "paused": True}),
        ("POST", "/v1/templates", {"name": "other", **SMALL}),
        ("PATCH", "/v1/templates/small", {"priority": 1}),
        ("POST", "/v1/webhooks", {"url": "https://hooks.example.org/"}),
        ("POST", f"/v1/webhooks/{hook.id}/test", None),
        *(("POST", f"/v1/workflows/{flow}/{verb}", None) for verb in ("cancel", "retry", "cancel")),
        ("POST", f"/v1/job-types/{jobs[0].job_type}/pause", {}),
        ("POST", "/v1/organization/pause", {"reason": "too loud"}),
        ("PUT", f"/v1/errors/{OF_GUARDED}", {"state": "ignored"}),
        ("POST", "/v1/bulk", cancel_all),
    ]
    client = operator.api.client
    for method, path, body in asked:
        answer = client.request(method, f"{path}?organization={name}", json=body, headers=operator.headers)
        assert answer.status_code < 300, (path, answer.text)
    with operator.api.database.begin() as connection:
        operation = next_one(connection)
        assert operation is not None
        work.work(connection, operation, UNLIMITED, 100, timedelta(hours=1))
    aborted = operator.post(f"/v1/bulk?organization={name}", {**cancel_all, "filter": {}}).json()["id"]
    assert operator.post(f"/v1/bulk/{aborted}/abort?organization={name}").status_code == 200
    read = [
        *(f"/v1/jobs/{job.id}{what}" for job in jobs for what in ("?include=attempts,history", "/status", "/explain")),
        *("/v1/jobs", "/v1/jobs/recent", "/v1/jobs/history", "/v1/schedules", f"/v1/schedules/{schedule.id}/outcomes"),
        *("/v1/templates", "/v1/templates/small/versions", "/v1/webhooks", f"/v1/webhooks/{hook.id}/deliveries"),
        *("/v1/workflows", f"/v1/workflows/{flow}", "/v1/organization", "/v1/job-types", "/v1/errors?state=ignored"),
        *("/v1/bulk", f"/v1/bulk/{aborted}", "/v1/audit", "/v1/audit/export?format=jsonl", "/v1/audit?actor=olga"),
    ]
    for path in read:
        answer = tenant.get(path)
        assert (answer.status_code, "olga" in answer.text) == (200, False), (path, answer.text)
    told = operator.get("/v1/audit", organization=name, actor="olga").json()["entries"]
    assert len(told) == len(asked) + 3  # the second operation, its end, and the job of the schedule


@pytest.mark.parametrize("wanted", ["*", "one"])
def test_a_bulk_operation_reaches_where_it_is_asked_for(
    operator: Caller, tenants: tuple[Caller, Caller], wanted: str
) -> None:
    """A bulk operation of an operator touches the jobs of all organizations, or of the one that is named.

    What their webhooks deliver it touches only if it asks for that type.
    """
    jobs = [tenant.job() for tenant in tenants]
    everywhere = wanted == "*"
    with operator.api.database.autocommit() as connection:
        delivery = Tracked(connection).submit(owner=Owner("webhooks:acme", "webhooks"), job_type="webhook_delivery")
    wanted = wanted if everywhere else tenants[0].organization
    asked = {"action": "cancel", "filter": {"status": ["queued"]}}
    preview = operator.post(f"/v1/bulk?organization={wanted}", {**asked, "dryRun": True}).json()
    assert preview["matched"] == len(preview["sample"]) == (2 if everywhere else 1)
    begun = operator.post(f"/v1/bulk?organization={wanted}", asked)
    assert begun.status_code == 202, begun.text
    with operator.api.database.begin() as connection:
        operation = next_one(connection)
        assert operation is not None
        work.work(connection, operation, UNLIMITED, 100, timedelta(hours=1))
    assert [tenant.find(job.id).status for tenant, job in zip(tenants, jobs, strict=True)] == [
        "cancelled",
        "cancelled" if everywhere else "queued",
    ]
    told = {"action": "cancel", "filter": {"jobType": "webhook_delivery"}, "dryRun": True}
    preview = operator.post(f"/v1/bulk?organization={wanted}", told).json()
    assert [each["id"] for each in preview["sample"]] == ([str(delivery.id)] if everywhere else [])
    path = f"/v1/bulk/{begun.json()['id']}"
    done = operator.get(path, organization=wanted).json()
    assert (done["state"], done["counts"]["succeeded"]) == ("completed", 2 if everywhere else 1)
    assert [each["id"] for each in operator.get("/v1/bulk", organization="*").json()["operations"]] == [done["id"]]
    assert len(operator.get(f"{path}/jobs", organization="*").json()["jobs"]) == done["counts"]["matched"]
    wide = tenants[0].but(permissions=(*NO_OPERATOR, "jobs.view_all"))
    assert wide.get(path).status_code == (404 if everywhere else 200)


def test_schedules_templates_and_webhooks_are_one_organizations(
    operator: Caller, tenants: tuple[Caller, Caller]
) -> None:
    """Schedules, templates and webhooks of a named organization are read and stopped."""
    name = tenants[0].organization
    schedule = tenants[0].schedule(uuid4(), "nightly")
    tenants[0].template(uuid4(), "small")
    tenants[0].webhook(uuid4())
    for path, key in (("/v1/schedules", "schedules"), ("/v1/templates", "templates"), ("/v1/webhooks", "webhooks")):
        assert len(operator.get(path, organization=name).json()[key]) == 1
        assert operator.get(path).json()[key] == []
    paused = operator.post(f"/v1/schedules/{schedule.id}/pause?organization={name}")
    assert (paused.status_code, paused.json()["pausedAt"] is not None) == (200, True)
    entry = operator.get("/v1/audit", organization=name, action="schedule.pause").json()["entries"][0]
    assert (entry["actor"], entry["organizationId"]) == ("olga", name)


def test_the_overview_counts_by_organization_type_and_queue(operator: Caller, tenants: tuple[Caller, Caller]) -> None:
    """One request has what waits, runs and fails in all, and by organization, type and queue, the fullest first."""
    mine, theirs = tenants
    for state in ("queued", "queued", "running", "failed", "succeeded"):
        mine.job(state, job_type="export")
    theirs.job(job_type="export", queue="slow")
    theirs.job("failed", job_type="sync")
    with operator.api.database.autocommit() as connection:
        tracked = Tracked(connection)
        tracked.finished_ago(tracked.get(theirs.job("failed", job_type="old").id), timedelta(hours=2))
    found = operator.get("/v1/overview").json()
    assert {name: found["total"][name] for name in ("waiting", "running", "held", "succeeded", "failed")} == {
        "waiting": 3, "running": 1, "held": 0, "succeeded": 1, "failed": 2,
    }  # fmt: skip
    assert found["isCapped"] is False
    by = {kind: {each["name"]: each for each in found[kind]} for kind in ("organizations", "jobTypes", "queues")}
    assert [each["name"] for each in found["organizations"]] == [mine.organization, theirs.organization]
    assert (by["organizations"][mine.organization]["failureRate"], by["jobTypes"]["sync"]["failureRate"]) == (0.5, 1.0)
    assert by["jobTypes"]["export"]["waiting"] == 3
    assert "old" not in by["jobTypes"]
    assert (by["queues"]["slow"]["waiting"], by["queues"]["default"]["waiting"]) == (1, 2)
    assert by["jobTypes"]["export"]["oldestWaitingAgeMs"] >= by["queues"]["slow"]["oldestWaitingAgeMs"] >= 0
    assert by["jobTypes"]["sync"]["oldestWaitingAgeMs"] is None
    assert "old" in {each["name"] for each in operator.get("/v1/overview", window="PT3H").json()["jobTypes"]}
    assert len(operator.get("/v1/overview", limit=1).json()["organizations"]) == 1
