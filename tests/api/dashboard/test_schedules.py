"""The page of the schedules: without a script, and live with one."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from playwright.sync_api import expect

from tests.api.calling import Caller
from tests.api.dashboard.conftest import SignIn, Window
from tests.scheduled import Scheduled
from tracking import clean_ups
from tracking.errors import ScheduleUnfit
from tracking.models import NewJob
from tracking.schedules.values import CatchUp, Schedule

SAME = {"Sec-Fetch-Site": "same-origin"}
MINUTE = timedelta(minutes=1)


def refuse(*_: object) -> NewJob:
    raise ScheduleUnfit("its type <b>is gone</b>")


def several(caller: Caller) -> list[Schedule]:
    """Schedules of the caller with outcomes of every kind."""
    scheduled = Scheduled(caller.api.database)
    nightly = caller.schedule(uuid4(), "nightly report", every_seconds=None, cron="30 2 * * 1-5", timezone="UTC")
    often = caller.schedule(uuid4(), "often", catch_up=CatchUp.SKIP)
    broken = caller.schedule(uuid4(), "broken")
    for _ in range(3):
        scheduled.fire(scheduled.let_pass(often, 3 * MINUTE))
    scheduled.fire(scheduled.let_pass(broken, MINUTE), refuse)
    caller.post(f"/v1/schedules/{nightly.id}/run")
    with caller.api.database.autocommit() as connection:
        clean_ups.note(connection, "retention", 60, timedelta(0), removed=12_345, error=None)
    return [nightly, often, broken]


def test_the_schedules_are_shown_and_every_button_works(caller: Caller, reading: SignIn) -> None:
    """The page of the schedules has their times, outcomes and reasons as text, and its buttons do what the API does."""
    nightly, *_ = several(caller)
    client, viewer = reading(caller), reading(caller.but(permissions=("jobs.view_jobs",)))
    page = client.get("/schedules").text
    for text in (
        "nightly report",
        "At 02:30, Monday through Friday, UTC",
        "skipped",
        "its type &lt;b&gt;is gone",
        "12,345",
    ):
        assert text in page, text
    assert "/pause" not in viewer.get("/schedules").text
    assert "12,345" not in viewer.get("/schedules").text
    assert viewer.post(f"/schedules/{nightly.id}/pause", headers=SAME).status_code == 403
    for what, done in {"pause": "paused", "resume": "resumed", "skip-next": "skipped", "run": "run"}.items():
        answer = client.post(f"/schedules/{nightly.id}/{what}", headers=SAME)
        assert answer.headers["location"] == f"/schedules?done={done}"
    assert "A job of it was made." in client.get("/schedules?done=run").text
    entries = caller.get("/v1/audit", target=str(nightly.id)).json()["entries"]
    assert [(each["action"], each["source"]) for each in reversed(entries)][-5:] == [
        ("schedule.pause", "dashboard"),
        ("schedule.pause", "dashboard"),
        ("schedule.resume", "dashboard"),
        ("schedule.skip_next", "dashboard"),
        ("schedule.run", "dashboard"),
    ]
    assert client.post(f"/schedules/{uuid4()}/pause", headers=SAME).status_code == 404


def test_many_schedules_are_on_several_pages(caller: Caller, reading: SignIn) -> None:
    """A hundred schedules are on a page, which leads to the further ones; nobody sees those of others."""
    for number in range(101):
        caller.schedule(uuid4(), f"s{number:03}")
    client, stranger = reading(caller), reading(caller.api.caller())
    assert client.get("/schedules").text.count('id="schedule-') == 100
    assert "/schedules?after=s099" in client.get("/schedules").text
    assert client.get("/schedules?after=s099").text.count('id="schedule-') == 1
    assert "There are no schedules yet." in stranger.get("/schedules").text


def test_a_press_of_a_button_shows_at_once(window: Window, caller: Caller) -> None:
    """On the live page a pause and a run show at once, and the next due time counts down."""
    nightly, *_ = several(caller)
    page = window.sign_in(caller)
    page.get_by_role("link", name="Schedules").click()
    line = page.locator(f"#schedule-{nightly.id}")
    expect(line.locator(".next")).to_contain_text("in ")
    line.get_by_role("button", name="Run").click()
    expect(page.locator("#notices")).to_contain_text("A job of it was made.")
    expect(line.locator(".last .badge")).to_have_count(2)
    window.picture("schedules")
    line.get_by_role("button", name="Pause").click()
    expect(line.locator(".next")).to_contain_text("paused")
    line.get_by_role("button", name="Resume").click()
    expect(line.locator(".next")).to_contain_text("in ")


def test_a_schedule_is_made_and_removed_on_the_pages(caller: Caller, reading: SignIn) -> None:
    """The form of a type makes a schedule as the API does, says what is wrong where it is, and a button removes it."""
    client, viewer = reading(caller), reading(caller.but(permissions=("jobs.view_jobs",)))
    assert 'href="/schedules/new"' in client.get("/schedules").text
    assert 'href="/schedules/new"' not in viewer.get("/schedules").text
    assert viewer.get("/schedules/new").status_code == 403
    form = client.get("/schedules/new?type=guarded").text
    assert 'name="payload.kind"' in form
    assert ">generic</option>" not in form, "nobody would do the work"
    said = {"jobType": "guarded", "payload.kind": "small", "name": "each day", "catchUp": "once", "overlap": "skip"}
    for more, field in (({}, "cron"), ({"cron": "61 * * * *"}, "cron"), ({"everySeconds": "soon"}, "everySeconds")):
        refused = client.post("/schedules/new", data={**said, **more}, headers=SAME)
        assert (refused.status_code, f'id="wrong-{field}"' in refused.text) == (422, True), refused.text
    made = client.post("/schedules/new", data={**said, "cron": "0 6 * * *", "priority": "7"}, headers=SAME)
    assert made.headers["location"] == "/schedules?done=created"
    [schedule] = caller.get("/v1/schedules").json()["schedules"]
    assert [schedule[name] for name in ("name", "cron", "priority", "overlap")] == ["each day", "0 6 * * *", 7, "skip"]
    assert schedule["payload"]["kind"] == "small"
    assert f"/schedules/{schedule['id']}/remove" in client.get(f"/schedules/{schedule['id']}/edit").text
    assert viewer.post(f"/schedules/{schedule['id']}/remove", headers=SAME).status_code == 403
    removed = client.post(f"/schedules/{schedule['id']}/remove", headers=SAME)
    assert removed.headers["location"] == "/schedules?done=removed"
    assert caller.get("/v1/schedules").json()["schedules"] == []
    entries = caller.get("/v1/audit", target=schedule["id"]).json()["entries"]
    assert {(each["action"], each["outcome"]) for each in entries} == {
        ("schedule.create", "done"),
        ("schedule.remove", "denied"),
        ("schedule.remove", "done"),
    }
