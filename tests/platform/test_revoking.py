"""Revocations by everything that Celery offers for it: the row is cancelled, with and without a worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.live import LivePlatform, eventually
from tests.platform.test_cancel import RETRY, receipt, start_nap
from tests.servers import Servers, new_database
from tests.tracked import ACME, HOUR, Tracked, new_job, outcome
from tracking import jobs, revocations
from tracking.admission.rule import UNLIMITED
from tracking.identifiers import job_id_of
from tracking.models import Claim, JobRecord

ELSEWHERE = "elsewhere"  # a queue that no worker takes jobs from
OURS = "import json; from tasks import app; ids = json.loads(stdin)\n"
BARE = (
    "import json, os; from celery import Celery; ids = json.loads(stdin)\n"
    "bare = Celery(broker=os.environ['BROKER_URL'], set_as_current=False)\n"
)

# Ways of a program that has the platform.
CLIENT = {
    "a result": "app.AsyncResult(ids[0]).revoke()",
    "a result that terminates": "app.AsyncResult(ids[0]).revoke(terminate=True, signal='SIGUSR1')",
    "a result that waits for answers": "app.AsyncResult(ids[0]).revoke(wait=True, timeout=0.5)",
    "a set of results": "app.ResultSet([app.AsyncResult(each) for each in ids]).revoke()",
    "one id": "app.control.revoke(ids[0])",
    "several ids": "app.control.revoke([*ids, 'an id of nobody'])",
    "terminate": "app.control.terminate(ids, signal='SIGUSR1')",
    "the command line": "app.control.broadcast('revoke', arguments={'task_id': ids}, reply=True, timeout=0.5)",
    "its stamp": "app.control.revoke_by_stamped_headers({'by': ids[0]})",
    "one of several": "app.control.revoke_by_stamped_headers({'none': ['x'], 'by': ['y', ids[0]]}, terminate=True)",
    "its stamp from a result": "app.AsyncResult('x').revoke_by_stamped_headers({'by': [ids[0]]})",
}
# Ways of a program that has Celery alone, and of Flower beside it.
STOCK = {
    "one id": "bare.control.revoke(ids[0])",
    "several ids": "bare.control.revoke(ids)",
    "terminate": "bare.control.terminate(ids[0], signal='SIGUSR1')",
    "its stamp": "bare.control.revoke_by_stamped_headers({'by': [ids[0]]})",
    "its stamp, to terminate": "bare.control.revoke_by_stamped_headers({'by': ids[0]}, terminate=True)",
    "a command line's stamp": "bare.control.broadcast('revoke_by_stamped_headers', {'headers': ['by=' + ids[0]]})",
}


def _stamped(platform: LivePlatform, job_id: UUID | None = None, **changes: object) -> JobRecord:
    """A job that no worker gets to see, with its id as a stamp."""
    job_id = job_id or uuid4()
    delivery = {"stamps": {"by": [str(job_id), "others"]}, "stamped_headers": ["by"]}
    job = new_job(id=job_id, queue=ELSEWHERE, delivery=delivery, **changes)
    with platform.database.autocommit() as connection:
        return jobs.submit(connection, job, UNLIMITED).job


def _held(platform: LivePlatform) -> JobRecord:
    return _stamped(platform, delay=HOUR)


def _sent(platform: LivePlatform) -> JobRecord:
    return _stamped(platform)


def _backing_off(platform: LivePlatform) -> JobRecord:
    job = _stamped(platform)
    with platform.database.autocommit() as connection:
        jobs.claim(connection, [Claim(job.fence, uuid4(), "worker-1", None)])
        jobs.settle(connection, [outcome(platform.job(job.id), "retry", delay=HOUR)])
    return platform.job(job.id)


WAITING: dict[str, Callable[[LivePlatform], JobRecord]] = {"held": _held, "sent": _sent, "retrying": _backing_off}


@pytest.fixture(scope="module")
def alone(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A platform without any worker."""
    directory = tmp_path_factory.mktemp("alone")
    with new_database(servers) as url, LivePlatform(url, servers.valkey_url, directory) as platform:
        yield platform


@pytest.mark.parametrize("state", WAITING)
@pytest.mark.parametrize("way", CLIENT)
def test_a_revocation_is_in_the_row_when_the_call_returns(alone: LivePlatform, way: str, state: str) -> None:
    """A revoke is in the row when the call returns, without any worker."""
    job = WAITING[state](alone)
    alone.run(OURS + CLIENT[way], json.dumps([str(job.id)]))
    assert alone.job(job.id).status == "cancelled"
    end = alone.history(job.id)[-1]
    assert end.actor.startswith("remote control of ")
    assert end.detail["reason"] in ("revoked", "terminated")


def test_a_finished_job_is_left_as_it_is(alone: LivePlatform) -> None:
    """A revoke changes neither finished jobs nor others than it names."""
    job, other = _held(alone), _held(alone)
    alone.run(OURS + CLIENT["its stamp"], json.dumps([str(job.id)]))
    before = alone.history(job.id)
    for way in CLIENT.values():
        alone.run(OURS + way, json.dumps([str(job.id)]))
    assert alone.history(job.id) == before
    assert alone.job(other.id).status == "queued"


@pytest.mark.parametrize(
    "name", [str, lambda job_id: job_id.hex, "an id of one's own, {}".format], ids=["a UUID", "hexadecimal", "text"]
)
def test_an_id_that_was_revoked_before_its_job_was_submitted_is_remembered(
    alone: LivePlatform, name: Callable[[UUID], str]
) -> None:
    """A job whose id was revoked before its submit is cancelled, and a retry by hand runs it."""
    given = name(uuid4())
    alone.run(OURS + CLIENT["one id"], json.dumps([given]))
    job = _stamped(alone, job_id_of(given))
    assert (job.status, job.hold) == ("cancelled", None)
    assert alone.history(job.id)[-1].detail["reason"] == "revoked before it was submitted"
    with alone.database.autocommit() as connection:
        assert jobs.retry(connection, job.id, ACME, actor="u1", limits=UNLIMITED).job.status == "queued"


def test_a_stamp_that_was_revoked_before_is_remembered(alone: LivePlatform) -> None:
    """Jobs that are submitted with a stamp that was revoked are cancelled, also in a canvas."""
    stamp = str(uuid4())
    alone.run(OURS + "app.control.revoke_by_stamped_headers({'colour': ids})", json.dumps([stamp]))
    send = "signature = app.signature('add', (1, 2)); signature.stamp(colour={})\nprint(signature.apply_async().id)"
    for colour, status in [(repr(stamp), "cancelled"), (repr([1, stamp]), "cancelled"), ("'blue'", "queued")]:
        assert alone.job(UUID(alone.run(OURS + send.format(colour), "[]").strip())).status == status


def test_what_is_remembered_is_forgotten_in_time(tracked: Tracked) -> None:
    """A revocation without a job is forgotten after three hours."""
    job = new_job()
    revocations.revoke(tracked.connection, [job.id], actor="flower", reason="revoked")
    assert revocations.forget(tracked.connection) == 0
    assert revocations.forget(tracked.connection, timedelta(0)) == 1
    assert jobs.submit(tracked.connection, job, UNLIMITED).job.status == "queued"


def test_a_worker_that_writes_late_does_not_cancel_what_was_retried_since(tracked: Tracked) -> None:
    """A revocation that is written late does not cancel a job that was retried since."""
    job = tracked.put_into("failed")
    time.sleep(0.01)
    jobs.retry(tracked.connection, job.id, ACME, actor="u1", limits=UNLIMITED)
    late, now = (
        revocations.revoke(tracked.connection, [job.id], actor="flower", reason="revoked", age=timedelta(seconds=age))
        for age in (60, 0)
    )
    assert (len(late), len(now)) == (0, 1)


def test_what_the_platform_has_to_say_is_not_in_a_program_s_output(alone: LivePlatform) -> None:
    """Log lines of ours never go to a program's stdout."""
    code = "import structlog; from tasks import app; structlog.get_logger('tasks').warning('heard')"
    assert alone.run(code) == ""
    assert "heard" in alone.log("producer.log")


def test_nobody_waits_for_a_broker_that_is_away(alone: LivePlatform) -> None:
    """A revoke does not wait for a broker that is away."""
    job = _held(alone)
    with LivePlatform(alone.environment["DATABASE_URL"], "redis://127.0.0.1:9/0", alone.directory) as absent:
        absent.run(OURS + CLIENT["terminate"], json.dumps([str(job.id)]), timeout=3)
    assert alone.job(job.id).status == "cancelled"


@pytest.mark.parametrize(
    "call",
    [
        "app.control.revoke_by_stamped_headers({'by': float('nan')})",
        "app.control.revoke_by_stamped_headers({'by': 'x' * 5000})",
        "app.control.revoke_by_stamped_headers({'b' * 300: 'x'})",
        "app.control.revoke_by_stamped_headers('by')",
        "app.control.revoke('a\\x00b')",
        "app.control.revoke('x' * 300)",
    ],
)
def test_what_cannot_be_kept_is_refused(alone: LivePlatform, call: str) -> None:
    """A revoke with an id that cannot be kept is refused before anything is written or sent."""
    refusal = "try:\n    {}\nexcept Exception as error:\n    print(type(error).__name__)"
    assert alone.run(OURS + refusal.format(call), "[]").strip() == "InvalidValue"


# With a worker


@pytest.mark.parametrize("state", ["held", "retrying"])
@pytest.mark.parametrize("way", STOCK)
def test_a_worker_writes_what_stock_celery_revokes(running: LivePlatform, way: str, state: str) -> None:
    """A worker writes the revocation by stock Celery of a job that waits in its row."""
    job = WAITING[state](running)
    running.run(BARE + STOCK[way], json.dumps([str(job.id)]))
    running.wait_for(job.id, "cancelled", within=20)
    assert running.history(job.id)[-1].actor.startswith("remote control of worker1@")


@pytest.mark.parametrize("code", [OURS + CLIENT["one id"], BARE + STOCK["one id"], BARE + STOCK["terminate"]])
def test_a_running_job_is_interrupted(running: LivePlatform, code: str) -> None:
    """A revoke interrupts a running job, with terminate or without."""
    job_id = start_nap(running)
    running.run(code, json.dumps([str(job_id)]))
    running.wait_for(job_id, "cancelled", within=20)
    assert receipt(running, job_id) == "interrupted"


def test_a_job_that_is_retried_after_its_revocation_runs(running: LivePlatform) -> None:
    """A job that is retried after its revocation runs."""
    job_id = running.submit("noop", countdown=3600)
    for code in (OURS + CLIENT["one id"], BARE + STOCK["one id"]):
        running.run(code, json.dumps([str(job_id)]))
        running.wait_for(job_id, "cancelled", within=20)
        running.run(RETRY, str(job_id))
        assert running.wait_for(job_id).status == "succeeded"
        job_id = running.submit("noop", countdown=3600)


def test_workers_answer_as_celery_s(running: LivePlatform) -> None:
    """Workers answer a revoke as Celery's do."""
    ask = "print([list(each.values())[0]['ok'] for each in app.control.{}])"
    stamp = "{'a': ['b']}"
    answers = {
        "revoke('x', reply=True)": "tasks {'x'} flagged as revoked",
        "terminate('x', reply=True)": "terminate: tasks unknown",
        f"revoke_by_stamped_headers({stamp}, reply=True)": f"headers {stamp} flagged as revoked, but not terminated",
        f"revoke_by_stamped_headers({stamp}, terminate=True, reply=True)": f"headers {stamp} were not terminated",
    }
    for call, answer in answers.items():
        assert running.run(OURS + ask.format(call), "[]").strip() == str([answer])


def test_workers_tell_what_they_were_told_to_revoke(running: LivePlatform) -> None:
    """`inspect revoked` lists the ids that workers were told to revoke."""
    job_id = running.submit("noop", countdown=3600)
    told = running.run(
        OURS + CLIENT["a result that waits for answers"] + "\nprint(list(app.control.inspect().revoked().values()))",
        json.dumps([str(job_id)]),
    )
    assert str(job_id) in told


def test_a_question_does_not_overtake_a_revocation_before_it(running: LivePlatform) -> None:
    """A question to the workers does not overtake a revocation before it."""
    job_id = running.submit("noop", countdown=3600)
    told = running.run(
        OURS + "jobs = [app.send_task('noop') for _ in range(20)]\napp.AsyncResult(ids[0]).revoke()\n"
        "print(list(app.control.inspect().revoked().values()))",
        json.dumps([str(job_id)]),
    )
    assert str(job_id) in told


@pytest.mark.parametrize(
    "arguments",
    ["{}", "{'task_id': 5, 'signal': 'NOSUCH', 'terminate': True}", "{'headers': 7}", "{'task_id': 'a\\x00'}"],
)
@pytest.mark.parametrize("command", ["revoke", "terminate", "revoke_by_stamped_headers", "interrupt"])
def test_a_command_with_nonsense_harms_nobody(running: LivePlatform, command: str, arguments: str) -> None:
    """A remote-control command with nonsense does no harm to a worker."""
    running.run(BARE + f"bare.control.broadcast({command!r}, {arguments})", "[]")
    assert running.wait_for(running.submit("noop")).status == "succeeded"


def test_what_has_expired_was_not_revoked_by_remote_control(running: LivePlatform) -> None:
    """A job that has expired says so, and not that it was revoked."""
    job = running.wait_for(running.submit("noop", expires=-1.0))
    end = running.history(job.id)[-1]
    assert (job.status, end.detail["reason"]) == ("cancelled", "expired")
    assert "remote control" not in end.actor


def test_a_job_on_a_worker_of_threads_is_stopped_at_its_next_step(servers: Servers, tmp_path: Path) -> None:
    """A revoked job in a pool of threads stops at its next step."""
    with new_database(servers) as url, LivePlatform(url, servers.valkey_url, tmp_path) as platform:
        worker = platform.start_worker("-P", "threads")
        job_id = platform.submit("nap", payload={"seconds": 30, "steps": 150})
        platform.wait_for(job_id, "running")
        platform.run(BARE + STOCK["terminate"], json.dumps([str(job_id)]))
        platform.wait_for(job_id, "cancelled", within=20)
        eventually(lambda: not platform.job(job_id).stopping, what="the stop of the body")
        worker.kill()
