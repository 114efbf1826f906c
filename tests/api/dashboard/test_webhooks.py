"""The pages of the webhooks: without a script, and in a browser."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from playwright.sync_api import expect

from tests.api.calling import EVERYTHING, Caller
from tests.api.dashboard.conftest import PATIENCE, SignIn, Window
from tracking import jobs, webhooks
from tracking.models import Claim, Failure, JobRecord, Outcome

SAME = {"Sec-Fetch-Site": "same-origin"}
HOSTILE = "<script>alert(1)</script>"


def refused(caller: Caller, webhook_id: UUID) -> JobRecord:
    """A delivery whose first try was answered with 503, and which is tried again."""
    delivery = caller.delivery(webhook_id, "queued")
    failure = Failure("DeliveryDelayed", "hooks.example.com answered 503", "")
    refusal = Outcome(delivery.fence, "retry", "worker-1", failure=failure, delay=timedelta(minutes=5))
    with caller.api.database.autocommit() as connection:
        jobs.claim(connection, [Claim(delivery.fence, uuid4(), "worker-1", None)])
        jobs.settle(connection, [refusal])
        webhooks.was_refused(connection, webhook_id, because=None)
    return caller.find(delivery.id)


def test_the_ledger_of_a_webhook_is_shown(caller: Caller, reading: SignIn) -> None:
    """The pages have each webhook and each delivery with its message, answer and tries as text, of one organization."""
    webhook, job = caller.webhook(uuid4(), description=HOSTILE, job_types=("open",)), uuid4()
    done = caller.delivery(webhook.id, "succeeded", about=job)
    late = refused(caller, webhook.id)
    client, stranger = reading(caller), reading(caller.api.caller())
    page = client.get("/webhooks").text
    assert "https://hooks.example.com/" in page
    assert "failing for" in page
    assert HOSTILE not in page
    assert "Nobody is told yet." in stranger.get("/webhooks").text
    address = f"/webhooks/{webhook.id}"
    ledger = client.get(address).text
    for text in ("hooks.example.com answered 503", f'href="/jobs/{job}"', ">204<", "Nothing was taken since"):
        assert text in ledger, text
    assert client.get(f"{address}?part=body").text.count('id="delivery-') == 2
    assert client.get(f"{address}?status=succeeded").text.count('id="delivery-') == 1
    assert "No delivery is failed." in client.get(f"{address}?status=failed").text
    assert client.get(f"{address}?status=nonsense").status_code == 422
    told = client.get(f"{address}/deliveries/{done.id}").text
    for text in ("204 No Content", f"msg_{done.id.hex}", "&#34;jobId&#34;", 'id="try-1"'):
        assert text in told, text
    assert "It is tried again" in client.get(f"{address}/deliveries/{late.id}").text
    for path in (address, f"{address}/deliveries/{done.id}"):
        assert stranger.get(path).status_code == 404
    assert client.get(f"/webhooks/{uuid4()}/deliveries/{done.id}").status_code == 404


def test_each_delivery_is_on_the_timeline_of_its_job(caller: Caller, reading: SignIn) -> None:
    """The page of a job has what webhooks were told of it at its time, with the answer; a link takes the right."""
    webhook, job = caller.webhook(uuid4()), caller.job("succeeded")
    done = caller.delivery(webhook.id, "succeeded", about=job.id)
    waiting = caller.delivery(webhook.id, "queued", about=job.id)
    other = caller.delivery(webhook.id, "succeeded", about=uuid4())
    page = reading(caller).get(f"/jobs/{job.id}?part=body").text
    _, timeline = page.split("Timeline, newest first")
    places = [timeline.index(f'id="delivery-{each.id}"') for each in (waiting, done)]
    assert places == sorted(places)
    assert places[-1] < timeline.index('id="entry-')
    assert f'href="/webhooks/{webhook.id}/deliveries/{done.id}">job.completed</a> · delivered, answered 204' in timeline
    assert "job.completed</a> · queued" in timeline
    assert str(other.id) not in page
    plain = reading(caller.but(permissions=("jobs.view_jobs", "jobs.view_all"))).get(f"/jobs/{job.id}").text
    assert (f'id="delivery-{done.id}"' in plain, f"/deliveries/{done.id}" in plain) == (True, False)
    assert "delivery-" not in reading(caller).get(f"/jobs/{job.id}?asOf={job.created_at.isoformat()}Z"[:-7] + "Z").text


def test_the_buttons_of_a_webhook_do_what_the_api_does(caller: Caller, reading: SignIn) -> None:
    """A test is sent, a webhook is disabled and enabled, a message is delivered again; each is in the audit."""
    webhook = caller.webhook(uuid4())
    done, failed = caller.delivery(webhook.id, "succeeded"), caller.delivery(webhook.id, "failed")
    waiting = caller.delivery(webhook.id, "queued")
    client, address = reading(caller), f"/webhooks/{webhook.id}"
    for what, word in {"test": "tested", "disable": "disabled", "enable": "enabled"}.items():
        assert client.post(f"{address}/{what}", headers=SAME).headers["location"] == f"{address}?done={word}"
    assert "A test is on its way." in client.get(f"{address}?done=tested").text
    again = client.post(f"{address}/deliveries/{failed.id}/redeliver", headers=SAME).headers["location"]
    assert again == f"{address}/deliveries/{failed.id}?done=redelivered"
    assert caller.find(failed.id).status == "queued"
    more = client.post(f"{address}/deliveries/{done.id}/redeliver", headers=SAME).headers["location"]
    assert str(done.id) not in more
    assert f"msg_{done.id.hex}" in client.get(more).text, "the receiver knows it again"
    assert client.post(f"{address}/deliveries/{waiting.id}/redeliver", headers=SAME).status_code == 409
    assert "disabled title" in client.get(f"{address}/deliveries/{waiting.id}").text
    entries = caller.get("/v1/audit", target=str(webhook.id), source="dashboard").json()["entries"]
    assert [each["action"] for each in entries if each["outcome"] == "done"] == [
        *("webhook.redeliver", "webhook.redeliver", "webhook.change", "webhook.change", "webhook.test"),
    ]


def test_a_webhook_that_was_disabled_says_why(caller: Caller, reading: SignIn) -> None:
    """The reason for which the platform has disabled a webhook stands in the list and on its page."""
    webhook = caller.webhook(uuid4())
    with caller.api.database.autocommit() as connection:
        webhooks.was_refused(connection, webhook.id, because="its address has answered 410")
    client = reading(caller)
    for path in ("/webhooks", f"/webhooks/{webhook.id}"):
        assert "its address has answered 410" in client.get(path).text


def test_the_webhooks_take_their_permission(caller: Caller, reading: SignIn) -> None:
    """Whoever may not manage webhooks has no link to them, sees none of their pages and can press no button."""
    webhook = caller.webhook(uuid4())
    delivery = caller.delivery(webhook.id, "failed")
    ordinary = reading(caller.but(permissions=tuple(set(EVERYTHING) - {"jobs.manage_webhooks"})))
    assert 'href="/webhooks"' not in ordinary.get("/").text
    address = f"/webhooks/{webhook.id}"
    for path in ("/webhooks", address, f"{address}/deliveries/{delivery.id}"):
        assert ordinary.get(path).status_code == 403
    for path in ("test", "enable", "disable", f"deliveries/{delivery.id}/redeliver"):
        assert ordinary.post(f"{address}/{path}", headers=SAME).status_code == 403
        assert reading(caller).post(f"{address}/{path}", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert caller.find(delivery.id).status == "failed"


def test_the_ledger_is_live_in_a_browser(window: Window, caller: Caller) -> None:
    """In a browser a delivery appears in the ledger by itself, and can be looked at and sent again."""
    webhook = caller.webhook(uuid4(), description="The warehouse")
    refused(caller, webhook.id)
    page = window.sign_in(caller)
    page.get_by_role("link", name="Webhooks").click()
    window.picture("webhooks")
    page.get_by_role("link", name="https://hooks.example.com/").click()
    expect(page.locator("#rows tr")).to_have_count(1)
    failed = caller.delivery(webhook.id, "failed")
    expect(page.locator("#rows tr")).to_have_count(2, timeout=PATIENCE)
    caller.delivery(webhook.id, "succeeded")
    window.picture("webhook")
    page.locator(f"#delivery-{failed.id}").get_by_role("link").first.click()
    expect(page.locator("h1")).to_have_text("job.completed")
    window.picture("delivery")
    page.get_by_role("button", name="Deliver again").click()
    expect(page.locator("p.notice").first).to_contain_text("on its way again")
