"""Messages of programs that have Celery and not the platform, adopted as that is wished for here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from tests.bare import BARE, CALLS, IDS, SEND, adopted, job_of, letter_of, letters_of, send_bare
from tests.live import LivePlatform, empty_queues, eventually
from tests.messages import Forged, send, task_headers
from tests.servers import Servers, new_database
from tests.tracked import new_job
from tracking import jobs
from tracking.admission.rule import UNLIMITED
from tracking.models import Owner

FOLLOWED = {"a chain": 7, "a chain, protocol 1": 7, "a link": 7, "a group": 7}  # what another job results in

# What no job can be made of, and what is said of it.
REFUSED = {
    "a payload of another shape": (
        SEND.format("'count_words', ({'words': 7},)"),
        "its payload is not that of count_words",
    ),
    "a time that nobody keeps": (SEND.format("'add', (1, 2), eta='9999-01-01T00:00:00'"), "eta must lie between"),
    "a time that is none": (SEND.format("'add', (1, 2), eta='soon'"), "eta is no time"),
    "a NUL": (SEND.format("'add', ('a\\x00b', 2)"), "contains a NUL"),
    "a large integer": (SEND.format("'add', (2**60, 2)"), "beyond ±2^53"),
    "a header of ours": (SEND.format("'add', (1, 2), headers={'dispatch': '42'}"), "must not set 'dispatch'"),
    "an owner for what follows": (
        SEND.format("'add', (1, 2), link=add(3, organization='acme')"),
        "a signature in it sets 'organization'",
    ),
    "an owner deep inside": (
        SEND.format("'add', (1, 2), link=group(add(1), chain(add(1), add(2, user='u9')))"),
        "a signature in it sets 'user'",
    ),
    "an owner in Celery's own task": (
        SEND.format(
            "'celery.group', kwargs={'tasks': [add(1, 1, idempotency_key='x')], 'result': [], 'group_id': 'g'}"
        ),
        "a signature in it sets 'idempotency_key'",
    ),
    "a chord": (
        "chord([add(1, 2).set(task_id=given)], bare.signature('total')).apply_async()",
        "a chord that was begun",
    ),
    "the wait for a chord": (SEND.format("'celery.chord_unlock', ('g', {'task': 'total'})"), "a chord that was begun"),
    "a stamp of a name of ours": (
        "signature = add(1, 2)\nsignature.stamp(actor='u9')\nsignature.apply_async(task_id=given)",
        "a stamp of the name 'actor'",
    ),
}


@pytest.fixture(scope="module")
def adopting(servers: Servers, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A platform that adopts, with a worker."""
    empty_queues(broker_url)
    directory = tmp_path_factory.mktemp("adopting")
    adopts = {"CELERIAC_ADOPT": "true", "CELERIAC_DEFAULT_ORGANIZATION": "adopted", "CELERIAC_DEFAULT_USER": "celery"}
    with new_database(servers) as url, LivePlatform(url, broker_url, directory, **adopts) as platform:
        platform.start_worker()
        yield platform


@pytest.mark.parametrize("what", CALLS)
def test_a_call_becomes_a_job_of_the_default_organization(adopting: LivePlatform, what: str) -> None:
    """An adopted call, and what follows from it, runs as on plain Celery, for the default organization."""
    before = {job.id for job in adopting.jobs()}
    task_id = send_bare(adopting, CALLS[what])
    job = adopting.wait_for(adopted(adopting, task_id).id)
    assert (job.status, job.result, job.organization_id, job.user_id) == ("succeeded", 3, "adopted", "celery")
    assert adopting.events(job.id) == ["created", "started", "completed"]
    assert (job.id, job.attempt, job.queue) == (UUID(task_id), 1, "default")
    if what in FOLLOWED:
        [other] = eventually(lambda: [each for each in adopting.jobs() if each.id not in before | {job.id}])
        other = adopting.wait_for(other.id)
        assert (other.result, other.organization_id) == (FOLLOWED[what], "adopted")


def test_what_a_message_says_of_itself_is_in_the_row(adopting: LivePlatform) -> None:
    """The row of an adopted message has its options, as if it had been called with them here."""
    job = adopting.wait_for(
        adopted(adopting, send_bare(adopting, CALLS["limits, headers, a priority and a shadow"])).id
    )
    assert job.priority == 7
    kept = {"time_limit": 60, "soft_time_limit": 50, "headers": {"trace": "x"}, "shadow": "sum"}
    assert {name: job.delivery.get(name) for name in kept} == kept


@pytest.mark.parametrize("protocol", [1, 2])
@pytest.mark.parametrize("option", ["countdown=3600", "eta='2999-01-01T00:00:00'"])
def test_a_call_for_later_waits_in_its_row(adopting: LivePlatform, option: str, protocol: int) -> None:
    """An adopted call with an eta waits in its row, not in the memory of a worker."""
    call = f"bare.conf.task_protocol = {protocol}\n" + SEND.format(f"'add', (1, 2), {option}")
    job = adopted(adopting, send_bare(adopting, call))
    assert (job.status, job.hold, job.scheduled_at is not None) == ("queued", "schedule", True)


def test_what_follows_has_its_row_from_the_adoption_on(adopting: LivePlatform) -> None:
    """The successors of an adopted call have rows from the adoption on, and end with it."""
    before = {job.id for job in adopting.jobs()}
    task_id = send_bare(adopting, "(add(1, 2).set(task_id=given, countdown=3600) | add(4)).apply_async()")
    job = adopted(adopting, task_id)
    [following] = [each for each in adopting.jobs() if each.id not in before | {job.id}]
    assert (following.hold, following.organization_id) == ("dependency", "adopted")
    adopting.run("import json; from tasks import app; app.AsyncResult(json.loads(stdin)).revoke()", json.dumps(task_id))
    assert adopting.wait_for(following.id).status != "succeeded"


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_call_that_has_expired_is_cancelled_with_that_reason(adopting: LivePlatform, protocol: int) -> None:
    """An adopted call that has expired does not run, and is cancelled with that reason."""
    call = f"bare.conf.task_protocol = {protocol}\n" + SEND.format("'add', (1, 2), expires='2020-01-01T00:00:00'")
    job = adopting.wait_for(adopted(adopting, send_bare(adopting, call)).id)
    assert (job.status, job.attempt) == ("cancelled", 0)
    assert adopting.history(job.id)[-1].detail["reason"] == "expired"


@pytest.mark.parametrize("kind", IDS)
def test_whatever_celery_calls_a_task_names_its_job(adopting: LivePlatform, kind: str) -> None:
    """The id that the sender of an adopted call knows finds its result and revokes it."""
    task_id = IDS[kind](uuid4())
    job = adopted(adopting, send_bare(adopting, SEND.format("'add', (1, 2), countdown=3600"), task_id))
    ask = "import json; from tasks import app; result = app.AsyncResult(json.loads(stdin))\n"
    assert adopting.run(ask + "result.revoke()\nprint(result.state)", json.dumps(task_id)).strip() == "REVOKED"
    assert adopting.job(job.id).status == "cancelled"


def test_the_same_message_again_is_the_same_job(adopting: LivePlatform) -> None:
    """An adopted message that is delivered or sent twice is one job, whatever became of that."""
    task_id = str(uuid4())
    for _ in range(3):
        send_bare(adopting, SEND.format("'add', (1, 2)"), task_id)
        adopting.wait_for(adopted(adopting, task_id).id)
    _drained(adopting)
    assert adopting.events(UUID(task_id)) == ["created", "started", "completed"]
    assert letters_of(adopting, task_id) == []


def test_another_message_of_the_same_id_is_set_aside(adopting: LivePlatform) -> None:
    """A message with the id of an adopted one and another content is a dead letter."""
    task_id = send_bare(adopting, SEND.format("'add', (1, 2)"))
    done = adopting.wait_for(adopted(adopting, task_id).id)
    send_bare(adopting, SEND.format("'add', (3, 4)"), task_id)
    assert "it cannot be a job" in letter_of(adopting, task_id).reason
    assert adopting.job(done.id) == done


@pytest.mark.parametrize("owner", ["acme", "adopted"])
def test_a_message_with_the_id_of_a_job_that_was_submitted_changes_nothing(adopting: LivePlatform, owner: str) -> None:
    """A foreign message with the id of a submitted job neither runs nor ends it."""
    job = new_job(owner=Owner(owner, "u1"), job_type="add", queue="elsewhere", payload={"args": [1, 2], "kwargs": {}})
    with adopting.database.autocommit() as connection:
        before = jobs.submit(connection, job, UNLIMITED).job
    send_bare(adopting, SEND.format("'add', (1, 2)"), str(job.id))
    assert "it cannot be a job" in letter_of(adopting, str(job.id)).reason
    assert adopting.job(job.id) == before


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_job_can_be_made_of_is_set_aside(adopting: LivePlatform, what: str) -> None:
    """A message that cannot be adopted is a dead letter with the reason."""
    call, reason = REFUSED[what]
    before = len(adopting.jobs())
    task_id = send_bare(adopting, call)
    assert reason in letter_of(adopting, task_id).reason
    assert len(adopting.jobs()) == before


@pytest.mark.parametrize("value", [{"organization": "acme"}, {"user": "u9", "organization": "acme"}])
def test_headers_that_name_an_owner_are_headers_like_any_other(adopting: LivePlatform, value: dict[str, str]) -> None:
    """Headers of a foreign message do not decide its owner: that is the default organization."""
    task_id = str(uuid4())
    send(adopting.broker_url, Forged(task_headers("add", task_id, **value), b"[[1, 2], {}, {}]"))
    job = adopting.wait_for(adopted(adopting, task_id).id)
    assert (job.organization_id, job.user_id, job.status) == ("adopted", "celery", "succeeded")


def test_a_message_that_names_a_job_nobody_knows_is_never_adopted(adopting: LivePlatform) -> None:
    """A message with our header whose job is unknown is not adopted."""
    job_id = str(uuid4())
    send(adopting.broker_url, Forged(task_headers("add", job_id, dispatch=1), b"[[1, 2], {}, {}]"))
    assert "it is of a job that does not exist" in letter_of(adopting, job_id).reason
    assert job_of(adopting, job_id) is None


def test_a_message_of_the_version_before_is_set_aside(adopting: LivePlatform) -> None:
    """A message of the version before is a dead letter, since its job is sent anew."""
    job_id, task_id = str(uuid4()), str(uuid4())
    send(adopting.broker_url, Forged(task_headers("add", task_id, job_id=job_id), b"[[1, 2], {}, {}]"))
    assert "sent by an earlier version of the platform" in letter_of(adopting, task_id).reason
    assert job_of(adopting, task_id) is None


def test_a_program_in_a_process_of_its_own_is_understood(adopting: LivePlatform) -> None:
    """A program with kombu's own transport is understood, with its reversed priorities on Redis."""
    code = BARE.replace("json.loads(stdin)", repr(task_id := str(uuid4()))) + SEND.format("'add', (1, 2), priority=3")
    subprocess.run([sys.executable, "-c", code], env=adopting.environment, check=True, timeout=30)
    job = adopting.wait_for(adopted(adopting, task_id).id)
    assert (job.status, job.priority) == ("succeeded", 3)


def _drained(platform: LivePlatform) -> None:
    """Nothing is under way, nor unacknowledged: a message that was sent after all others has been taken."""
    last = send_bare(platform, SEND.format("'add', (1, 2)"))
    platform.wait_for(adopted(platform, last).id)
