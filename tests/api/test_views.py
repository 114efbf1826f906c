"""Saved views over HTTP: kept by one user, opened by anybody of the organization, bounded."""

from __future__ import annotations

from uuid import uuid4

from tests.api.calling import Caller, problem
from tracking import views
from tracking.models import Owner
from tracking.origins import By

SEARCH = "status:failed type:guarded"


def test_a_view_is_kept_shown_changed_and_removed(caller: Caller) -> None:
    """A search is kept under a name, listed by name, renamed, made to find something else, and forgotten."""
    made = caller.post("/v1/views", {"name": "Failed ones", "search": SEARCH})
    assert made.status_code == 201, made.text
    view = made.json()
    assert made.headers["Location"] == f"/v1/views/{view['id']}"
    assert (view["name"], view["search"], view["userId"]) == ("Failed ones", SEARCH, caller.user)
    caller.post("/v1/views", {"name": "All", "search": ""})
    assert [each["name"] for each in caller.get("/v1/views").json()["views"]] == ["All", "Failed ones"]
    address = f"/v1/views/{view['id']}"
    renamed = caller.api.client.patch(address, json={"name": "Broken ones"}, headers=caller.headers).json()
    assert (renamed["name"], renamed["search"]) == ("Broken ones", SEARCH)
    refused = caller.api.client.patch(address, json={"name": "All"}, headers=caller.headers)
    problem(refused, 409, "view_exists")
    problem(caller.post("/v1/views", {"name": "All", "search": "x"}), 409, "view_exists")
    caller.api.client.patch(address, json={"search": "status:queued"}, headers=caller.headers)
    assert caller.get(address).json()["search"] == "status:queued"
    assert caller.api.client.delete(address, headers=caller.headers).status_code == 200
    problem(caller.get(address), 404, "view_not_found")


def test_views_of_others_are_opened_and_no_more(caller: Caller) -> None:
    """Others of the organization open a view by its id, and cannot list, change or remove it; strangers see none."""
    view = caller.view(uuid4(), "Mine")
    address, client = f"/v1/views/{view.id}", caller.api.client
    colleague = caller.but(user="u2")
    assert colleague.get(address).json()["search"] == view.search
    assert colleague.get("/v1/views").json()["views"] == []
    problem(client.patch(address, json={"name": "x"}, headers=colleague.headers), 404, "view_not_found")
    problem(client.delete(address, headers=colleague.headers), 404, "view_not_found")
    assert colleague.post("/v1/views", {"name": "Mine", "search": ""}).status_code == 201
    stranger = caller.but(organization=f"{caller.organization}-other")
    problem(stranger.get(address), 404, "view_not_found")
    assert stranger.get("/v1/views").json()["views"] == []


def test_a_user_keeps_so_many_views(caller: Caller) -> None:
    """A user has as many views as a menu holds, and the next one is refused."""
    owner, by = Owner(caller.organization, caller.user), By(caller.user)
    with caller.api.database.begin() as connection:
        for number in range(views.MOST_VIEWS):
            views.save(connection, owner, view_id=uuid4(), name=f"view {number}", search="", by=by)
    problem(caller.post("/v1/views", {"name": "one more", "search": ""}), 409, "too_many_views")
    assert caller.but(user="u2").post("/v1/views", {"name": "one more", "search": ""}).status_code == 201
