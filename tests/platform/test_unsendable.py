"""A row whose message no broker takes fails alone, with the reason; all others go out."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from amqp.exceptions import AccessRefused, ConnectionForced, FrameError
from kombu import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from sqlalchemy import make_url, text

from tasks import app
from tasks.broker import unsendable
from tasks.broker.unsendable import Suspects, Unsendable, examine, may_be_its_fault
from tests.conftest import _rabbitmqctl
from tests.live import LivePlatform
from tests.tracked import Tracked
from tracking.models import Fence, JobRecord, Owner

INSERT = text(
    """
    WITH made AS (
        INSERT INTO jobs (id, organization_id, user_id, job_type, status, queue, max_retries, delivery,
                          updated_at)
        VALUES (:id, :organization, 'u1', 'noop', 'queued', :queue, 3, CAST(:delivery AS jsonb),
                clock_timestamp() - interval '1 hour')
        RETURNING *
    )
    INSERT INTO history (job_id, organization_id, user_id, job_type, event, to_status, attempt, dispatch, actor)
    SELECT id, organization_id, user_id, job_type, 'created', 'queued', 0, 1, 'u1' FROM made"""
)
LONG = "k" * 300

# What a row may hold that no caller could send, by SQL or by an older version; and which brokers refuse it, if not all.
HOSTILE: dict[str, dict[str, Any]] = {
    "a header with a long name": {"delivery": {"headers": {LONG: 1}}, "brokers": ["rabbitmq"]},
    "a header within one with a long name": {"delivery": {"headers": {"a": [{LONG: 1}]}}, "brokers": ["rabbitmq"]},
    "headers larger than a frame": {"delivery": {"headers": {"a": "b" * 200_000}}, "brokers": ["rabbitmq"]},
    "a number that no field of AMQP holds": {"delivery": {"headers": {"a": 2**70}}, "brokers": ["rabbitmq"]},
    "a property that is too long": {"delivery": {"app_id": LONG}, "brokers": ["rabbitmq"]},
    "a property that is no text": {"delivery": {"type": {"a": 1}}, "brokers": ["rabbitmq"]},
    "headers that are a list": {"delivery": {"headers": [1, 2]}},
    "headers that are text": {"delivery": {"headers": "abc"}},
    "a number as what it is passed by": {"delivery": {"stamps": 5, "headers": 7}},
    "a queue that the broker keeps for itself": {"queue": "amq.reserved", "brokers": ["rabbitmq"]},
    "a queue that is something else": {"queue": "taken", "brokers": ["valkey"]},
}


def _refused_by(name: str, broker_url: str) -> bool:
    kind = "valkey" if broker_url.startswith("redis") else "rabbitmq"
    return kind in HOSTILE[name].get("brokers", ["valkey", "rabbitmq"])


def _insert(platform: LivePlatform, organization: str, **row: Any) -> UUID:
    job_id = uuid4()
    values = {"queue": "default", "delivery": {}, **row}
    values["delivery"] = json.dumps(values["delivery"])
    with platform.database.autocommit() as connection:
        connection.execute(INSERT, {"id": job_id, "organization": organization, **values})
    return job_id


@pytest.fixture
def taken(platform: LivePlatform) -> LivePlatform:
    """On Redis, a key that is no list bears the name of a queue."""
    if platform.broker_url.startswith("redis"):
        with Connection(platform.broker_url) as connection:
            channel: Any = connection.default_channel
            channel.client.delete("taken")
            channel.client.hset("taken", "a", "b")
    platform.environment["CELERIAC_ORGANIZATION_LIMIT"] = "0"
    return platform


def test_what_cannot_be_sent_fails_alone_and_the_others_run(taken: LivePlatform) -> None:
    """In the leader's batch over all organizations an unsendable job fails alone."""
    healthy = [_insert(taken, f"before-{number}") for number in range(3)]
    hostile = {name: _insert(taken, "hostile", **_columns(name)) for name in HOSTILE}
    healthy += [_insert(taken, f"after-{number}") for number in range(3)]
    taken.start_worker()
    for job_id in healthy:
        assert taken.wait_for(job_id).status == "succeeded"
    for name, job_id in hostile.items():
        if not _refused_by(name, taken.broker_url):
            continue
        job = taken.wait_for(job_id, "failed", within=30)
        assert (job.error_type, name) == ("Unsendable", name)
        assert str(job.error_message).startswith("its message cannot be sent: ")
        assert taken.events(job_id)[-1] == "failed"
        assert "SQL" not in str(job.error_message)
    later = taken.submit("noop")
    assert taken.wait_for(later).status == "succeeded"
    assert "k" * 100 not in taken.log()


# What a process does that sends its own jobs, and meets rows that it cannot send.
DISPATCH = """
import json
from datetime import timedelta
from tasks import app
from tasks.broker.publisher import Publisher
from tracking import jobs
publisher = Publisher(app.platform)
for _ in range(json.loads(stdin)):
    with app.platform.database.autocommit() as connection:
        records = jobs.undispatched(connection, timedelta(0), 500)
    publisher.publish(records)
print(len(records))
"""


def test_a_batch_goes_out_but_for_what_cannot_be_sent(taken: LivePlatform) -> None:
    """A batch goes out at once but for what cannot be sent, which rests before it is tried again."""
    hostile = [_insert(taken, "hostile", **_columns(name)) for name in HOSTILE if _refused_by(name, taken.broker_url)]
    healthy = [_insert(taken, f"org-{number}") for number in range(5)]
    taken.run(DISPATCH, "3")
    assert all(taken.job(job_id).dispatched_at for job_id in healthy)
    left = [taken.job(job_id) for job_id in hostile]
    assert not any(job.dispatched_at for job in left)
    assert {job.status for job in left if job.queue == "default"} == {"failed"}
    assert {job.status for job in left if job.queue != "default"} == {"queued"}, "one strike is not enough"


def _columns(name: str) -> dict[str, Any]:
    return {column: value for column, value in HOSTILE[name].items() if column != "brokers"}


@pytest.fixture
def record(tracked: Tracked) -> JobRecord:
    """A job that waits to be sent."""
    return tracked.submit(owner=Owner("acme", "u1"), job_type="noop")


def test_a_message_in_good_order_is_none_of_the_rows_fault(record: JobRecord) -> None:
    """A message in good order passes the examination for either broker."""
    examine(app, record, is_amqp=True)
    examine(app, record, is_amqp=False)


def test_what_stands_in_the_way_is_told(record: JobRecord) -> None:
    """The reason of an unsendable message is told in words, without values."""
    with pytest.raises(Unsendable, match=r"^the name of its queue is longer than 255 bytes$"):
        examine(app, record._replace(queue="q" * 256), is_amqp=True)
    with pytest.raises(Unsendable, match=r"^its headers are \d+ bytes; a broker takes \d+$"):
        examine(app, record._replace(delivery={"headers": {"a": "b" * 200_000}}), is_amqp=True)


@pytest.mark.parametrize("error", [FrameError(), AccessRefused(), ResponseError("WRONGTYPE"), ConnectionResetError()])
def test_what_a_message_can_cause_is_held_against_it(error: Exception) -> None:
    """An error that a message can cause counts against it when it was sent alone."""
    assert may_be_its_fault(error)
    assert may_be_its_fault(RedisConnectionError("Connection closed by server."))


@pytest.mark.parametrize(
    "error", [TimeoutError(), ConnectionForced(reply_code=320), OutOfMemoryError(), ReadOnlyError()]
)
def test_what_is_the_brokers_own_trouble_is_not(error: Exception) -> None:
    """An error of a broker that is full, silent or being stopped counts against no message."""
    assert not may_be_its_fault(error)


def test_a_message_is_given_up_after_so_many_times_with_growing_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message is given up after four errors with growing rests, and acquitted once it went out."""
    now = [100.0]
    monkeypatch.setattr("tasks.broker.unsendable.time.monotonic", lambda: now[0])
    suspects, fence, other = Suspects(), Fence(uuid4(), 1), Fence(uuid4(), 1)
    rests = []
    while not suspects.accuse(fence):
        began = now[0]
        while suspects.is_resting(fence):
            now[0] += 0.5
        rests.append(now[0] - began)
        assert not suspects.is_resting(other)
    assert rests == [1.0, 2.0, 4.0]
    assert not suspects.accuse(fence)
    suspects.acquit(fence)
    assert not suspects.is_resting(fence)


def test_the_number_of_suspects_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond their bound the oldest suspected message is forgotten."""
    monkeypatch.setattr(unsendable, "MOST", 3)
    suspects, ids = Suspects(), [Fence(uuid4(), 1) for _ in range(5)]
    for each in ids:
        suspects.accuse(each)
    assert [suspects.is_resting(each) for each in ids] == [False, False, True, True, True]


# Tries three times to send two jobs to a queue that takes one message, then once more when it is empty again.
REFUSED = """
import json
from datetime import timedelta
from structlog.testing import capture_logs
from tasks import app
from tasks.broker.publisher import Publisher, connect
from tracking import jobs
publisher = Publisher(app.platform)
def look():
    with app.platform.database.autocommit() as connection:
        publisher.publish(jobs.undispatched(connection, timedelta(0), 500))
with capture_logs() as lines:
    for _ in range(3):
        look()
    with connect(app) as broker:
        broker.default_channel.queue_purge("full")
    look()
print(json.dumps([line for line in lines if line["event"].startswith("dispatch.")]))
"""


def test_a_queue_that_refuses_messages_is_logged_when_it_begins_and_when_it_is_over(platform: LivePlatform) -> None:
    """The refusal of a full queue is logged at its beginning and its end only."""
    if not platform.broker_url.startswith("amqp"):
        pytest.skip("only RabbitMQ has queues that refuse messages")
    host = make_url(platform.broker_url).database or "/"
    limit = '{"max-length": 1, "overflow": "reject-publish"}'
    if not _rabbitmqctl("set_policy", "-p", host, "full", "^full$", limit, "--apply-to", "queues"):
        pytest.skip("its policies cannot be set from here")
    for number in range(2):
        _insert(platform, f"org-{number}", queue="full")
    assert json.loads(platform.run(REFUSED)) == [
        {"event": "dispatch.refused_by_broker", "log_level": "warning", "queue": "full", "refused": 1},
        {"event": "dispatch.taken_again", "log_level": "info", "queue": "full"},
    ]
    assert all(job.dispatched_at for job in platform.jobs())
