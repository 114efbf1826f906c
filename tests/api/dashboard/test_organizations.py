"""The pages of the organizations, for operators: without a script, and in a browser."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote
from uuid import uuid4

import pytest
from playwright.sync_api import expect

from tests.api.calling import EVERYTHING, Caller
from tests.api.dashboard.conftest import SignIn, Window
from tracking.admission.rule import Limits
from tracking.reads import organizations

SAME = {"Sec-Fetch-Site": "same-origin"}
HOUR = timedelta(hours=1)
FEW = Limits(2)


def test_an_organization_is_counted(caller: Caller) -> None:
    """Of each organization its slots, its line, what waits, what has ended, and its worker time are told."""
    for state in ("running", "queued", "succeeded", "succeeded", "failed"):
        caller.job(state)
    caller.job(delay=HOUR)
    of = (caller.organization,)
    with caller.api.database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET started_at = completed_at - interval '2 s', created_at = created_at - interval '1 min'"
            " WHERE organization_id = %s AND status = 'succeeded'",
            of,
        )
        found = organizations.one(connection, caller.organization, FEW, window=HOUR)
        before = caller.organization[:-1]
        [listed] = [
            each
            for each in organizations.page(connection, FEW, window=HOUR, after=before, size=1000)
            if each.id == caller.organization
        ]
    assert (found.limit, found.is_default_limit, found.weight, found.waiting_limit) == (2, True, 1, None)
    assert (found.executing, found.in_line, found.waiting, found.finished, found.failed) == (2, 0, 2, 3, 1)
    assert timedelta(seconds=4) <= found.worker_time < timedelta(seconds=6)
    assert (listed.executing, listed.waiting, listed.finished) == (2, 2, 3)


def test_who_waits_behind_whom_is_told(caller: Caller, reading: SignIn) -> None:
    """An operator sees which organizations have slots and lines in the queues of one, those with most slots first."""
    queue = f"queue-{uuid4().hex[:8]}"
    others = [caller.but(organization=f"{caller.organization}-{name}") for name in ("one", "two", "elsewhere")]
    caller.job(queue=queue)
    for number, other in enumerate(others[:2]):
        for _ in range(number + 1):
            other.job("running", queue=queue)
    others[0].job(queue=queue)
    others[2].job("running", queue=f"{queue}-other")
    with caller.api.database.autocommit() as connection:
        for each in (caller, others[0]):
            connection.exec_driver_sql(
                "UPDATE jobs SET hold = 'organization_limit', dispatched_at = NULL"
                " WHERE organization_id = %s AND status = 'queued'",
                (each.organization,),
            )
        found = organizations.neighbours(connection, caller.organization)
    assert [(each.id, each.queues, each.taken, each.in_line) for each in found] == [
        (others[1].organization, [queue], 2, 0),
        (others[0].organization, [queue], 1, 1),
    ]
    page = reading(caller).get(f"/organizations/{caller.organization}").text
    assert "Its 1 in line wait for the workers, behind the slots of these" in page
    assert "-elsewhere" not in page


def test_what_an_organization_may_do_is_set(caller: Caller, reading: SignIn) -> None:
    """An operator sets limits and the weight of an organization, takes them back, and each is in the audit."""
    client, name = reading(caller), f"{caller.organization}/of a name & more"
    address = f"/organizations/{quote(name)}"
    for what, number, said in (("limit", "3", "3"), ("waiting-limit", "40", "40"), ("weight", "7", "7")):
        answer = client.post(f"{address}/{what}", data={what: number}, headers=SAME)
        assert answer.headers["location"] == f"{address}?done={what}"
        assert f'value="{said}"' in client.get(address).text
    assert caller.get("/v1/organization", organization=name).json()["limit"] == 3
    assert client.post(f"{address}/limit", data={"limit": ""}, headers=SAME).status_code == 303
    assert caller.get("/v1/organization", organization=name).json()["isDefaultLimit"] is True
    entries = caller.get("/v1/audit", target=name, organization=name, source="dashboard").json()["entries"]
    assert [each["action"] for each in reversed(entries)] == [
        *("organization.limit", "organization.waiting_limit", "organization.weight", "organization.limit"),
    ]


@pytest.mark.parametrize(
    ("what", "number"),
    [("limit", "-1"), ("limit", "many"), ("weight", "0"), ("weight", "101"), ("waiting-limit", "9" * 30)],
)
def test_a_number_that_cannot_be_is_said_at_its_field(caller: Caller, reading: SignIn, what: str, number: str) -> None:
    """A number beyond what the API takes is refused at its field, and what was typed stays."""
    answer = reading(caller).post(f"/organizations/{caller.organization}/{what}", data={what: number}, headers=SAME)
    assert answer.status_code == 422
    assert f'id="wrong-{what}" role="alert"' in answer.text
    assert f'value="{number}"' in answer.text


def test_limits_are_set_and_taken_away(caller: Caller, reading: SignIn) -> None:
    """A limit of a type is set, shown with what it counts, and taken away; what does not fit is said."""
    client = reading(caller)
    form = {"per": "organization", "jobType": "open", "organization": caller.organization, "jobs": "100"}
    answer = client.post("/limits", data={**form, "period": "minute", "concurrency": "3"}, headers=SAME)
    assert answer.headers["location"] == "/organizations?done=put"
    page = client.get(f"/organizations/{caller.organization}").text
    assert "100 in a minute" in page
    [limit] = [
        each for each in caller.get("/v1/limits").json()["limits"] if each["organization"] == caller.organization
    ]
    assert (limit["concurrency"], limit["rate"]) == (3, {"jobs": 100, "per": "minute"})
    for wrong, words in (
        ({"per": "platform"}, "of no organization"),
        ({"per": "key"}, "names a concurrency_key"),
        ({"jobs": "0"}, "greater than or equal to 1"),
        ({"jobType": "opne"}, "no handler is registered"),
        ({"per": "user"}, "Per: "),
    ):
        refused = client.post("/limits", data={**form, "period": "hour", **wrong}, headers=SAME)
        assert (refused.status_code, words in refused.text) == (422, True), wrong
        assert 'role="alert"' in refused.text
    assert client.post(f"/limits/{limit['id']}/remove", headers=SAME).status_code == 303
    assert client.post(f"/limits/{limit['id']}/remove", headers=SAME).status_code == 404


def test_the_pages_are_for_operators(caller: Caller, reading: SignIn) -> None:
    """Whoever is no operator has no link to the organizations, sees none of them and can set nothing."""
    ordinary = reading(caller.but(permissions=tuple(set(EVERYTHING) - {"jobs.manage_platform"})))
    address = f"/organizations/{caller.organization}"
    assert 'href="/organizations"' not in ordinary.get("/").text
    for path in ("/organizations", address):
        assert ordinary.get(path).status_code == 403
    for path in (f"{address}/limit", f"{address}/waiting-limit", f"{address}/weight", "/limits"):
        assert ordinary.post(path, data={"limit": "1"}, headers=SAME).status_code == 403
    assert ordinary.post(f"/limits/{uuid4()}/remove", headers=SAME).status_code == 403
    assert reading(caller).post(f"{address}/limit", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_the_list_leads_to_all_organizations(caller: Caller, reading: SignIn) -> None:
    """From page to page each organization that has a job or a limit is listed once, and none that only delivers."""
    webhook = caller.webhook(uuid4())
    caller.delivery(webhook.id, "queued")
    for number in range(55):
        caller.but(organization=f"{caller.organization}-{number:02}").job()
    client, page = reading(caller), ""
    path = f"/organizations?after={caller.organization}"
    for _ in range(2):
        text = client.get(path).text
        page += text
        path = text.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
    assert all(page.count(f'href="/organizations/{caller.organization}-{number:02}"') == 1 for number in range(55))
    assert "webhooks%3A" not in page
    assert "webhooks:" not in page


def test_an_operator_gives_an_organization_more_in_a_browser(window: Window, caller: Caller) -> None:
    """In a browser an operator finds an organization, and lets more of its jobs run at once."""
    for state in ("running", "running", "queued", "succeeded", "failed"):
        caller.job(state)
    limit = caller.job_limit(uuid4())
    page = window.sign_in(caller)
    page.goto(f"{caller.api.url}/organizations?after={caller.organization[:-1]}")
    window.picture("organizations")
    page.get_by_role("link", name=caller.organization, exact=True).click()
    page.get_by_label("Jobs at once").fill("9")
    page.get_by_role("button", name="Set").first.click()
    expect(page.locator("p.notice").first).to_contain_text("may execute at once")
    window.picture("organization")
    page.locator(f"#limit-{limit.id}").get_by_role("button").click()
    expect(page.locator("p.notice").first).to_contain_text("taken away")
