"""Webhooks: which deliveries are made of what happens to jobs, and how one is delivered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from tasks import app, deliveries
from tasks.handlers.webhook_delivery import DELAYS, Delivery, webhook_delivery
from tasks.leader.webhooks import Telling, close_circuits
from tasks.webhooks import signing
from tasks.webhooks.delivery import DeliveryDelayed, DeliveryRefused
from tasks.webhooks.messages import LONGEST_ERROR, MOST_BYTES, encoded
from tests.handling import call, workplace
from tests.live import eventually
from tests.receiving import Receiver, receiving
from tests.tracked import Tracked, new_job
from tracking import jobs, webhooks
from tracking.admission import holds
from tracking.admission.rule import UNLIMITED, Limits
from tracking.errors import TooManySecrets, TooManyWebhooks
from tracking.models import Failure, JobRecord, Scope
from tracking.origins import By
from tracking.reads import lists
from tracking.webhooks import MOST, MOST_FORMER, Wanted, Webhook

ALL = ("job.created", "job.started", "job.completed", "job.failed", "job.cancelled")
SECRET = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ME = By("u1", None)
SEEN_ALL = """
    SELECT NOT EXISTS (SELECT FROM webhook_position, (SELECT id FROM history UNION ALL SELECT id FROM events) AS each
                       WHERE id > history_id)"""
DELIVERING = Scope("webhooks:acme", None)


OLDEST_IS_OVER = "UPDATE webhooks SET earlier_secrets = jsonb_set(earlier_secrets, '{-1,until}', to_jsonb(created_at))"
CIRCUIT = """INSERT INTO circuits (job_type, organization_id, key, failures, pause, probe_at)
             VALUES ('webhook_delivery', 'webhooks:acme', :key, 5, '1 hour', clock_timestamp() + interval '1 hour')"""


@pytest.fixture
def receiver(database_url: str, servers: Any, tmp_path: Path) -> Iterator[Receiver]:
    """A receiver on this machine, and the platform of a leader, which may deliver to it."""
    own = {"CELERIAC_WEBHOOKS_PRIVATE": "true", "BROKER_URL": servers.valkey_url, "CELERIAC_ORGANIZATION_LIMIT": "0"}
    with workplace(database_url, tmp_path, **own), receiving() as server:
        yield server


@pytest.fixture
def own(tracked: Tracked) -> Tracked:
    """The verbs of jobs; the tables of webhooks are empty as well."""
    tracked.connection.execute(text("TRUNCATE webhooks, webhook_position"))
    return tracked


def listen(own: Tracked, receiver: Receiver, organization: str = "acme", **wanted: Any) -> Webhook:
    """A webhook of acme that is told of everything, unless it is said."""
    url = f"http://127.0.0.1:{receiver.port}/hook"
    return webhooks.create(own.connection, uuid4(), organization, Wanted(**{"url": url, "events": ALL, **wanted}), ME)


def told(own: Tracked, organization: str = "acme") -> list[JobRecord]:
    """All deliveries for an organization, the oldest first."""
    page = lists.after(own.connection, Scope(f"webhooks:{organization}", None), cursor=None, size=100)
    return list(reversed(page.jobs))


def names(found: list[JobRecord]) -> list[str]:
    return [job.payload["event"] for job in found]


def payload_of(job: JobRecord) -> Delivery:
    """What the handler of a delivery gets."""
    return Delivery.model_validate(job.payload)


def follow() -> Telling:
    """A leader that has looked at everything, also at what was being written when it began."""
    telling = Telling(app.platform)

    def has_seen_all() -> bool:
        telling.turn()
        with app.platform.database.autocommit() as connection:
            return bool(connection.execute(text(SEEN_ALL)).scalar())

    eventually(has_seen_all, what="the end of the history")
    return telling


def test_each_thing_that_happens_is_told_once_to_who_wants_it(own: Tracked, receiver: Receiver) -> None:
    """A webhook is told of the life of a job, each event once, also when another leader looks again."""
    listen(own, receiver)
    job = own.end(own.start(own.submit()), "succeeded", result={"rows": 3})
    cancelled = own.submit()
    jobs.cancel(own.connection, cancelled.id, Scope("acme", None), actor="u1")
    telling = follow()
    telling.turn()
    follow()
    found = told(own)
    assert sorted(names(found)) == sorted([*ALL[:3], "job.created", "job.cancelled"])
    assert {each.user_id for each in found} == {str(job.id), str(cancelled.id)}
    message = next(each for each in found if each.payload["event"] == "job.completed").payload["message"]
    assert message["type"] == "job.completed"
    data = message["data"]
    assert (data["jobId"], data["jobType"], data["organizationId"]) == (str(job.id), job.job_type, "acme")
    assert (data["status"], data["attempt"], data["result"]) == ("succeeded", 1, {"rows": 3})


def test_a_leader_that_dies_before_it_notes_what_it_has_told_tells_nothing_twice(
    own: Tracked, receiver: Receiver
) -> None:
    """Deliveries that were made, and of which the position knows nothing, are found by their keys."""
    listen(own, receiver)
    own.end(own.start(own.submit()), "succeeded")
    before = webhooks.position(own.connection)
    follow()
    own.connection.execute(text("UPDATE webhook_position SET history_id = :before"), {"before": before})
    follow()
    assert sorted(names(told(own))) == sorted(ALL[:3])


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"events": ("job.completed",)}, 1),
        ({"job_types": ("another",)}, 0),
        ({"job_types": ("another", "count_words")}, 3),
        ({"project_id": "p1"}, 3),
        ({"project_id": "p2"}, 0),
        ({"enabled": False}, 0),
    ],
)
def test_a_webhook_is_told_of_what_it_wants(
    own: Tracked, receiver: Receiver, wanted: dict[str, Any], count: int
) -> None:
    """Events, types and project narrow what is told; a disabled webhook is told of nothing."""
    listen(own, receiver, **wanted)
    own.end(own.start(own.submit(job_type="count_words", project_id="p1")), "succeeded")
    follow()
    assert len(told(own)) == count


def test_no_organization_is_told_of_anothers_jobs(own: Tracked, receiver: Receiver) -> None:
    """A webhook hears of its own organization alone, and deliveries are themselves told to nobody."""
    listen(own, receiver, "globex")
    listen(own, receiver, "webhooks:acme")
    listen(own, receiver)
    own.end(own.start(own.submit()), "succeeded")
    follow()
    follow()
    assert len(told(own)) == 3
    assert told(own, "globex") == told(own, "webhooks:acme") == []


def test_a_failure_is_told_when_no_retry_follows(own: Tracked, receiver: Receiver) -> None:
    """An attempt that is retried is no failure of the job; the message of a long error is shortened."""
    listen(own, receiver, events=("job.failed",))
    own.settle(own.start(own.submit()), "retry", failure=Failure("ValueError", "first"))
    own.settle(own.start(own.submit()), "failed", failure=Failure("ValueError", "x" * 10_000))
    follow()
    [failed] = told(own)
    data = failed.payload["message"]["data"]
    assert (data["errorType"], len(data["error"])) == ("ValueError", LONGEST_ERROR)
    assert len(encoded(failed.payload["message"])) < MOST_BYTES


def test_a_large_result_is_left_out(own: Tracked, receiver: Receiver) -> None:
    """A message stays below its limit; it says that there is a result."""
    listen(own, receiver, events=("job.completed",))
    own.end(own.start(own.submit()), "succeeded", result={"rows": ["x" * 100] * 1000})
    follow()
    [done] = told(own)
    assert done.payload["message"]["data"]["result"] is None
    assert done.payload["message"]["data"]["resultOmitted"] is True


def test_deliveries_take_no_slot_of_the_organization(own: Tracked, receiver: Receiver) -> None:
    """With a limit of one the next job starts at once, whatever is to be told of the one before."""
    listen(own, receiver)
    own.end(own.start(own.submit()), "succeeded")
    follow()
    job = jobs.submit(own.connection, new_job(), Limits(1), scope=Scope("acme", None)).job
    assert job.hold is None
    assert {each.queue for each in told(own)} == {"webhooks"}


def test_what_happened_before_somebody_listens_is_not_told(own: Tracked, receiver: Receiver) -> None:
    """A webhook begins with what is written after it was made, although no leader was there then."""
    own.end(own.start(own.submit()), "succeeded")
    listen(own, receiver)
    own.submit()
    follow()
    assert names(told(own)) == ["job.created"]


def test_with_nobody_who_listens_nothing_is_remembered(own: Tracked, receiver: Receiver) -> None:
    """When the last webhook is gone, so is the position: the next one does not begin long ago."""
    webhook = listen(own, receiver)
    own.submit()
    follow()
    webhooks.remove(own.connection, webhook.id, "acme", ME)
    own.submit()
    follow()
    assert webhooks.position(own.connection) is None


def test_a_delivery_is_signed_by_standard_webhooks(own: Tracked, receiver: Receiver) -> None:
    """The published library verifies what arrives, with the secret as people see it."""
    webhook = listen(own, receiver)
    own.submit()
    follow()
    [job] = told(own)
    assert call(webhook_delivery, payload_of(job), "webhooks:acme") == {"status": 204}
    [(path, headers, body)] = receiver.requests
    assert (path, body) == ("/hook", job.payload["message"])
    secret = f"{signing.PREFIX}{webhook.secrets[0]}"
    assert Verifier(secret).verify(encoded(job.payload["message"]), headers) == body
    with pytest.raises(WebhookVerificationError):
        Verifier(f"{signing.PREFIX}{webhooks.new_secret()}").verify(encoded(job.payload["message"]), headers)


def test_for_a_day_either_of_two_secrets_verifies(own: Tracked, receiver: Receiver) -> None:
    """After a rotation both secrets sign; when the former one is over, only the new one does."""
    former = listen(own, receiver)
    current = webhooks.rotate(own.connection, former.id, "acme", ME)
    content = b'{"a":1}'
    now = datetime.now(UTC)
    headers = signing.headers("msg_1", now, content, current.secrets)
    for secret in (former.secrets[0], current.secrets[0]):
        assert Verifier(f"{signing.PREFIX}{secret}").verify(content, headers) == {"a": 1}
    own.connection.execute(text("UPDATE webhooks SET former_until = former_until - interval '2 days'"))
    assert webhooks.get(own.connection, former.id, "acme").secrets == current.secrets[:1]


def test_each_secret_signs_for_a_day_after_it_was_replaced(own: Tracked, receiver: Receiver) -> None:
    """Each secret of a webhook verifies until a day after its replacement, however often it is rotated meanwhile."""
    made = [listen(own, receiver)]
    for _ in range(MOST_FORMER):
        made.append(webhooks.rotate(own.connection, made[0].id, "acme", ME))
    all_of_them = tuple(each.secrets[0] for each in reversed(made))
    assert made[-1].secrets == all_of_them
    headers = signing.headers("msg_1", datetime.now(UTC), b"{}", made[-1].secrets)
    for secret in all_of_them:
        assert Verifier(f"{signing.PREFIX}{secret}").verify(b"{}", headers) == {}
    with pytest.raises(TooManySecrets):
        webhooks.rotate(own.connection, made[0].id, "acme", ME)
    own.connection.execute(text(OLDEST_IS_OVER))
    newest = webhooks.rotate(own.connection, made[0].id, "acme", ME)
    assert newest.secrets[1:] == all_of_them[:-1]


def test_a_signature_is_that_of_the_published_example() -> None:
    """Secret, id, time and body of the specification's example have the signature that it names."""
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = signing.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}', [SECRET])
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("end", ["removed", "disabled"])
def test_what_waits_for_a_webhook_that_is_told_nothing_more_is_let_go(
    own: Tracked, receiver: Receiver, end: str
) -> None:
    """The circuit of a webhook that was removed or disabled is closed, so that what it held ends; others stay open."""
    hook, other = listen(own, receiver), listen(own, receiver)
    own.submit()
    follow()
    for each in (hook, other):
        parameters = {"key": str(each.id)}
        own.connection.execute(text(CIRCUIT), parameters)
        own.connection.execute(text("UPDATE jobs SET hold = 'circuit' WHERE circuit_key = :key"), parameters)
    if end == "removed":
        webhooks.remove(own.connection, hook.id, "acme", ME)
    else:
        webhooks.change(own.connection, hook.id, "acme", replace(hook.wanted, enabled=False), ME)
    close_circuits(app.platform)
    assert own.connection.execute(text("SELECT key FROM circuits")).scalars().all() == [str(other.id)]
    assert {each.project_id for each in holds.lift_gated(own.connection, UNLIMITED, 10)} == {str(hook.id)}


@pytest.mark.parametrize("status", [302, 400, 404, 429, 500, 503])
def test_whatever_is_no_success_is_tried_again(own: Tracked, receiver: Receiver, status: int) -> None:
    """A redirect is not followed, and an error of either side is another try, which the webhook remembers."""
    webhook, receiver.status = listen(own, receiver), status
    own.submit()
    follow()
    [job] = told(own)
    with pytest.raises(DeliveryDelayed, match=f"127.0.0.1 answered {status}"):
        call(webhook_delivery, payload_of(job), "webhooks:acme")
    assert len(receiver.requests) == 1
    now = webhooks.get(own.connection, webhook.id, "acme")
    assert now.wanted.enabled
    assert now.failing_since is not None
    receiver.status = 200
    call(webhook_delivery, payload_of(job), "webhooks:acme")
    assert webhooks.get(own.connection, webhook.id, "acme").failing_since is None


def test_who_answers_410_is_told_nothing_more(own: Tracked, receiver: Receiver) -> None:
    """Gone disables a webhook at once; what waited for it fails with that reason, until somebody enables it."""
    webhook, receiver.status = listen(own, receiver), 410
    own.submit()
    follow()
    [job] = told(own)
    with pytest.raises(DeliveryRefused, match="410"):
        call(webhook_delivery, payload_of(job), "webhooks:acme")
    now = webhooks.get(own.connection, webhook.id, "acme")
    assert (now.wanted.enabled, now.disabled_because) == (False, "its address has answered 410, Gone")
    with pytest.raises(DeliveryRefused, match="disabled"):
        call(webhook_delivery, payload_of(job), "webhooks:acme")
    enabled = Wanted(now.wanted.url, now.wanted.events)
    again = webhooks.change(own.connection, webhook.id, "acme", enabled, ME)
    assert (again.wanted.enabled, again.disabled_because, again.failing_since) == (True, None, None)


def test_five_days_of_failures_disable_a_webhook(own: Tracked, receiver: Receiver) -> None:
    """A failure after five days without a success is the last one."""
    webhook = listen(own, receiver)
    assert not webhooks.was_refused(own.connection, webhook.id, because=None)
    own.connection.execute(text("UPDATE webhooks SET failing_since = failing_since - interval '5 days 1 second'"))
    assert webhooks.was_refused(own.connection, webhook.id, because=None)
    now = webhooks.get(own.connection, webhook.id, "acme")
    assert (now.wanted.enabled, now.disabled_because) == (False, "it has failed for 5 days")
    assert not webhooks.was_refused(own.connection, webhook.id, because="again")


def test_another_address_has_five_days_of_its_own(own: Tracked, receiver: Receiver) -> None:
    """How long an address has failed says nothing of the next one: that is not disabled by its first failure."""
    webhook = listen(own, receiver, url="http://127.0.0.1:1/old")
    webhooks.was_refused(own.connection, webhook.id, because=None)
    own.connection.execute(text("UPDATE webhooks SET failing_since = failing_since - interval '5 days 1 second'"))
    described = Wanted("http://127.0.0.1:1/old", ALL, description="the old one")
    assert webhooks.change(own.connection, webhook.id, "acme", described, ME).failing_since is not None
    moved = webhooks.change(own.connection, webhook.id, "acme", Wanted("http://127.0.0.1:1/new", ALL), ME)
    assert moved.failing_since is None
    assert not webhooks.was_refused(own.connection, webhook.id, because=None)
    assert webhooks.get(own.connection, webhook.id, "acme").wanted.enabled


def test_a_webhook_that_is_disabled_can_be_tested(own: Tracked, receiver: Receiver) -> None:
    """A test is sent to an address that is disabled, so that it shows whether it works again; all else is not sent."""
    webhook = listen(own, receiver, enabled=False)
    job = deliveries.test(app.platform, webhook, ME)
    assert call(webhook_delivery, payload_of(job), "webhooks:acme") == {"status": 204}
    receiver.status = 410
    with pytest.raises(DeliveryRefused, match="410"):
        call(webhook_delivery, payload_of(job), "webhooks:acme")
    now = webhooks.get(own.connection, webhook.id, "acme")
    assert (now.wanted.enabled, now.disabled_because, now.failing_since) == (False, None, None)


def test_the_tries_of_a_delivery_last_a_day() -> None:
    """The waits between the tries grow, and are longer than a day together."""
    assert list(DELAYS) == sorted(DELAYS)
    assert timedelta(days=1) < timedelta(seconds=sum(DELAYS)) < timedelta(days=2)


def test_a_delivery_to_a_webhook_that_is_gone_fails(own: Tracked, receiver: Receiver) -> None:
    """Nothing is sent to an address whose webhook was removed."""
    webhook = listen(own, receiver)
    own.submit()
    follow()
    webhooks.remove(own.connection, webhook.id, "acme", ME)
    with pytest.raises(DeliveryRefused, match="removed"):
        call(webhook_delivery, payload_of(told(own)[0]), "webhooks:acme")
    assert receiver.requests == []


def test_a_message_that_is_delivered_again_keeps_its_id(own: Tracked, receiver: Receiver) -> None:
    """What was taken is sent once more as another delivery of the same message; what has failed is tried again."""
    webhook = listen(own, receiver, events=("job.completed",))
    own.end(own.start(own.submit()), "succeeded")  # else the line of another organization were before it
    follow()
    [job] = told(own)
    delivered = own.end(own.start(job), "succeeded", result={"status": 204})
    again = deliveries.redeliver(app.platform, webhook, delivered, ME)
    assert again.id != job.id
    assert again.payload["messageId"] == deliveries.message_id(job.id)
    call(webhook_delivery, payload_of(again), "webhooks:acme")
    assert receiver.requests[0][1]["webhook-id"] == deliveries.message_id(job.id)
    failed = own.end(own.start(again), "failed", failure=Failure("DeliveryRefused", "no"))
    assert deliveries.redeliver(app.platform, webhook, failed, ME).id == again.id


def test_an_organization_has_so_many_webhooks_at_most(own: Tracked, receiver: Receiver) -> None:
    """One more is refused; another organization has its own."""
    for _ in range(MOST):
        listen(own, receiver)
    with pytest.raises(TooManyWebhooks, match=str(MOST)):
        listen(own, receiver)
    listen(own, receiver, "globex")
