"""Messages and jobs that could take a worker down: it lives, the message is set aside, its job ends with a reason."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Callable
from uuid import UUID, uuid4

import psutil
import pytest
from redis import Redis

from tasks.broker.frames import UNREADABLE
from tasks.broker.messages import DISPATCH_HEADER
from tests.live import LivePlatform, eventually
from tests.messages import Envelope, Forged, push, send, send_at, task_headers
from tracking import dead_letters, jobs
from tracking.admission.rule import UNLIMITED
from tracking.dead_letters import DeadLetter
from tracking.models import NewJob, Owner

CANARY = "canary-5c1f0e"  # stands for what a job was given: it must appear in no line of a log
GOOD = json.dumps([[CANARY], {}, {}]).encode()
DEEP = b"[" * 100_000
ELSEWHERE = "elsewhere"  # a queue that no worker takes jobs from


def _task(task_id: str, task: object = "noop", **headers: object) -> dict[str, object]:
    return task_headers(task, task_id, **{DISPATCH_HEADER: 1, **headers})


def _with(body: bytes) -> Callable[[str], Forged]:
    return lambda task_id: Forged(_task(task_id), body)


# The bodies, and what is said of them, of messages whose headers are in order.
BODIES = {
    "broken JSON": (b'[["' + CANARY.encode() + b'"', "Expecting ',' delimiter"),
    "not UTF-8": (b"\xff\xfe" + CANARY.encode(), "can't decode"),
    "too deep": (DEEP, "recursion"),
    "empty": (b"", "its body is not [args, kwargs, embed]"),
    "an object": (json.dumps({"args": [CANARY], "kwargs": {}}).encode(), "its body is not [args, kwargs, embed]"),
    "too short": (json.dumps([[CANARY], {}]).encode(), "its body is not [args, kwargs, embed]"),
    "a number": (b"42", "its body is not [args, kwargs, embed]"),
    "kwargs that are no mapping": (json.dumps([[], [CANARY], {}]).encode(), "its body is not [args, kwargs, embed]: 1"),
    "args that are no list": (json.dumps([CANARY, {}, {}]).encode(), "its body is not [args, kwargs, embed]: 0"),
    "embed that is no mapping": (json.dumps([[CANARY], {}, 5]).encode(), "its body is not [args, kwargs, embed]: 2"),
    "an unknown type in it": (b'[[{"__type__": "secret", "__value__": 1}], {}, {}]', "Unsupported type"),
}

# Makers of messages for a job, and what is said of them.
MESSAGES: dict[str, tuple[Callable[[str], Forged], str]] = {
    **{f"a body that is {name}": (_with(body), reason) for name, (body, reason) in BODIES.items()},
    "an unknown task": (lambda task_id: Forged(_task(task_id, "nobody"), GOOD), "no handler is registered"),
    "a task that is an object": (lambda task_id: Forged(_task(task_id, {"a": 1}), GOOD), "of a task: task"),
    "no task": (lambda task_id: Forged(_task(task_id, None), GOOD), "of a task: task"),
    "a pickle": (
        lambda task_id: Forged(_task(task_id), pickle.dumps(CANARY), "application/x-python-serialize", "binary"),
        "Refusing to deserialize",
    ),
    "an unknown content type": (lambda task_id: Forged(_task(task_id), GOOD, "text/x-nobody"), "Refusing"),
    "no content type": (lambda task_id: Forged(_task(task_id), GOOD, None, None), "its body is not"),
    "an unknown compression": (lambda task_id: Forged(_task(task_id, compression="zip"), GOOD), "KeyError: 'zip'"),
    "broken compression": (
        lambda task_id: Forged(_task(task_id, compression="gzip"), GOOD, "application/json", "binary"),
        "decompress",
    ),
    "time limits that are none": (lambda task_id: Forged(_task(task_id, timelimit=[1, 2, 3]), GOOD), "timelimit"),
    "an expiry that is an object": (lambda task_id: Forged(_task(task_id, expires={"a": 1}), GOOD), "invalid expires"),
    "a time to wait for": (lambda task_id: Forged(_task(task_id, eta="0001-01-01T00:00:00"), GOOD), "of a task: eta"),
    "an unknown task and huge headers": (
        lambda task_id: Forged(_task(task_id, "nobody", **{"x" * 200: CANARY * 7000}), GOOD),
        "no handler is registered",
    ),
}

NO_ID: dict[str, Forged] = {
    "an object as id": Forged(task_headers("noop", {"a": CANARY}), GOOD),
    "a list as id": Forged(task_headers("noop", [CANARY]), GOOD),
    "no id": Forged(task_headers("noop", None), GOOD),
    "no headers": Forged({}, GOOD),
    "a message of Celery's first protocol without an id": Forged(
        {}, json.dumps({"task": "noop", "args": [CANARY]}).encode()
    ),
}

# What Redis has in its list and kombu cannot read; with the job's id where that can be read all the same.
ENVELOPES: dict[str, Callable[[str], bytes]] = {
    "a body that is not base64": lambda task_id: Envelope(_task(task_id), f"{CANARY}!").encoded(),
    "a body that is an object": lambda task_id: Envelope(_task(task_id), {"a": CANARY}).encoded(),
    "no body": lambda task_id: Envelope(_task(task_id), ...).encoded(),
    "an unknown encoding": lambda task_id: Envelope(_task(task_id), CANARY, {"body_encoding": "rot13"}).encoded(),
    "no delivery tag": lambda task_id: Envelope(_task(task_id), CANARY, {"delivery_tag": ...}).encoded(),
    "a delivery tag that is an object": lambda task_id: Envelope(
        _task(task_id), CANARY, {"delivery_tag": {"a": 1}}
    ).encoded(),
    "no delivery info": lambda task_id: Envelope(_task(task_id), CANARY, {"delivery_info": ...}).encoded(),
    "no properties": lambda task_id: Envelope(_task(task_id), CANARY, {}, {"properties": ...}).encoded(),
}
ITEMS = {
    "not JSON": CANARY.encode(),
    "not text": b"\xff\xfe\x00" + CANARY.encode(),
    "too deep": DEEP,
    "a list": json.dumps([CANARY]).encode(),
    "a number": b"42",
    "an object of another kind": json.dumps({CANARY: 1}).encode(),
    "headers that are a list": Envelope([CANARY]).encoded(),
    "no headers": Envelope(...).encoded(),
}

# What RabbitMQ takes and amqp cannot decode.
UNDECODABLE: dict[str, Callable[[str], None]] = {
    "a time beyond the year 9999": lambda url: send_at(url, 2**62, GOOD),
    "a content type that is no text": lambda url: send(url, Forged(_task("1"), GOOD, b"\xff")),
}


def _waiting_job(platform: LivePlatform, job_type: str = "noop") -> UUID:
    """A job whose own message no worker gets to see."""
    job = NewJob(id=uuid4(), owner=Owner("acme", "u1"), job_type=job_type, queue=ELSEWHERE)
    with platform.database.autocommit() as connection:
        return jobs.submit(connection, job, UNLIMITED).job.id


def _letters(platform: LivePlatform) -> list[DeadLetter]:
    with platform.database.autocommit() as connection:
        return list(dead_letters.newest(connection, 1000))


def _set_aside(platform: LivePlatform, put: Callable[[], None], task_id: str | None = None) -> DeadLetter:
    """The one dead letter that `put` leads to; others are of messages that were on the broker before."""
    known = {letter.id for letter in _letters(platform)}

    def new() -> list[DeadLetter]:
        return [letter for letter in _letters(platform) if letter.id not in known and letter.task_id == task_id]

    put()
    letters: list[DeadLetter] = eventually(new, what="setting the message aside")
    assert len(letters) == 1, [(letter.task_id, letter.reason, letter.at) for letter in letters]
    return letters[0]


def _goes_on(platform: LivePlatform) -> bool:
    """Whether the worker that was started takes the next jobs, in both of its processes."""
    ids = [platform.submit("noop") for _ in range(2)]
    return all(platform.wait_for(job_id).status == "succeeded" for job_id in ids) and _lives(platform)


def _lives(platform: LivePlatform) -> bool:
    return psutil.Process(platform.worker_pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def redis_platform(running: LivePlatform) -> LivePlatform:
    """The platform on Valkey: RabbitMQ has no envelopes."""
    if not running.broker_url.startswith("redis"):
        pytest.skip("only Redis and Valkey keep messages as JSON in lists")
    return running


@pytest.fixture
def rabbitmq_platform(running: LivePlatform) -> LivePlatform:
    """The platform on RabbitMQ: Redis has no properties."""
    if not running.broker_url.startswith("amqp"):
        pytest.skip("only RabbitMQ has a binary form of properties")
    return running


@pytest.mark.parametrize("what", MESSAGES)
def test_a_malformed_message_is_set_aside_and_fails_its_job(running: LivePlatform, what: str) -> None:
    """A malformed message is a dead letter and fails its job with the reason."""
    make, reason = MESSAGES[what]
    job_id = _waiting_job(running, "nobody" if "unknown task" in what else "noop")
    message = make(str(job_id))
    letter = _set_aside(running, lambda: send(running.broker_url, message), str(job_id))
    assert (letter.task_id, letter.queue, letter.size) == (str(job_id), "default", len(message.body))
    assert letter.body == message.body[: dead_letters.BODY_BYTES]
    assert reason in letter.reason
    job = running.job(job_id)
    assert (job.status, job.error_message) == ("failed", letter.reason)
    assert _lives(running)


@pytest.mark.parametrize("what", NO_ID)
def test_a_message_that_names_no_job_is_set_aside(running: LivePlatform, what: str) -> None:
    """A malformed message that names no job is a dead letter."""
    letter = _set_aside(running, lambda: send(running.broker_url, NO_ID[what]))
    assert (letter.task_id, letter.body) == (None, NO_ID[what].body)
    assert "its headers are not those of a task" in letter.reason
    assert _lives(running)


@pytest.mark.parametrize("what", ENVELOPES)
def test_a_broken_envelope_is_set_aside_and_fails_its_job(redis_platform: LivePlatform, what: str) -> None:
    """A broken envelope in Redis is kept as a dead letter and fails its job."""
    job_id = _waiting_job(redis_platform)
    item = ENVELOPES[what](str(job_id))
    letter = _set_aside(redis_platform, lambda: push(redis_platform.broker_url, item), str(job_id))
    assert (letter.task_id, letter.body, letter.queue) == (str(job_id), item, "default")
    job = redis_platform.job(job_id)
    assert (job.status, job.error_message) == ("failed", letter.reason)


@pytest.mark.parametrize("what", ITEMS)
def test_an_item_that_is_no_message_is_set_aside(redis_platform: LivePlatform, what: str) -> None:
    """Any item in a Redis list that is no message is a dead letter."""
    letter = _set_aside(redis_platform, lambda: push(redis_platform.broker_url, ITEMS[what]))
    assert (letter.task_id, letter.size) == (None, len(ITEMS[what]))
    assert letter.body == ITEMS[what][: dead_letters.BODY_BYTES]
    assert "its envelope cannot be read" in letter.reason


@pytest.mark.parametrize("what", ITEMS)
def test_remote_control_that_cannot_be_read_is_passed_over(redis_platform: LivePlatform, what: str) -> None:
    """Unreadable remote control does not end the worker."""
    with Redis.from_url(redis_platform.broker_url) as client:
        assert client.publish("/0.celery.pidbox", ITEMS[what]) == 1, "the worker listens"
    assert _goes_on(redis_platform)


@pytest.mark.parametrize("what", UNDECODABLE)
def test_properties_that_cannot_be_decoded_are_set_aside(rabbitmq_platform: LivePlatform, what: str) -> None:
    """A RabbitMQ message whose properties cannot be decoded is a dead letter."""
    letter = _set_aside(rabbitmq_platform, lambda: UNDECODABLE[what](rabbitmq_platform.broker_url))
    assert (letter.content_type, letter.body) == (UNREADABLE, GOOD)
    assert "its envelope cannot be read" in letter.reason
    assert _goes_on(rabbitmq_platform)


def test_an_empty_message_with_such_properties_is_set_aside(rabbitmq_platform: LivePlatform) -> None:
    """An empty RabbitMQ message with undecodable properties is a dead letter."""
    letter = _set_aside(rabbitmq_platform, lambda: send_at(rabbitmq_platform.broker_url, 2**62, b""))
    assert (letter.content_type, letter.body) == (UNREADABLE, b"")


def test_a_malformed_message_does_not_harm_a_job_that_runs(running: LivePlatform) -> None:
    """A malformed message that names a running job does not end it."""
    job_id = running.submit("nap", payload={"seconds": 1})
    running.wait_for(job_id, "running")
    _set_aside(running, lambda: send(running.broker_url, Forged(_task(str(job_id)), b"42")), str(job_id))
    assert running.wait_for(job_id).status == "succeeded"


def test_no_header_that_quotes_the_arguments_is_kept(running: LivePlatform) -> None:
    """A dead letter keeps no header that quotes the arguments."""
    task_id = str(uuid4())
    headers = task_headers("nobody", task_id, argsrepr=CANARY, kwargsrepr=CANARY, stamps={"a": CANARY})
    letter = _set_aside(running, lambda: send(running.broker_url, Forged(headers, GOOD)), task_id)
    assert CANARY not in json.dumps(letter.headers)
    assert letter.headers["stamps"] == "(dict)"


def test_many_malformed_messages_take_no_place_of_a_good_one(running: LivePlatform) -> None:
    """More malformed messages than a worker may hold do not keep good ones from it."""
    known = len(_letters(running))
    for number in range(40):
        send(running.broker_url, Forged(task_headers("noop", {"number": number}), GOOD))
    assert _goes_on(running)
    eventually(lambda: len(_letters(running)) == known + 40, what="setting all aside")


def test_nothing_is_left_unacknowledged(redis_platform: LivePlatform) -> None:
    """What was set aside is acknowledged and does not come back."""
    with Redis.from_url(redis_platform.broker_url) as client:
        eventually(lambda: client.hlen("unacked") == 0, what="the acknowledgements")


@pytest.mark.parametrize(("name", "error"), [("exhaust", "MemoryError"), ("recurse", "RecursionError")])
def test_a_job_that_takes_all_memory_or_stack_fails_alone(running: LivePlatform, name: str, error: str) -> None:
    """A MemoryError or RecursionError fails its job once, and the worker lives."""
    job = running.wait_for(running.submit(name))
    assert (job.status, job.error_type) == ("failed", error)
    assert running.events(job.id) == ["created", "started", "failed"]
    assert _goes_on(running)


def test_the_main_process_is_the_one_that_was_started(running: LivePlatform) -> None:
    """After all poison the worker's main process is the same, with both of its processes at work."""
    assert _goes_on(running)
    assert running.workers() == 1


def test_no_payload_is_in_the_log(running: LivePlatform) -> None:
    """No payload is in the log, also of messages that could not be read."""
    _set_aside(running, lambda: send(running.broker_url, NO_ID["an object as id"]))
    log = running.log()
    assert "message.set_aside" in log
    assert CANARY not in log
    assert base64.b64encode(CANARY.encode()).decode()[:12] not in log
