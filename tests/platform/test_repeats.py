"""A message of a job that its worker has already, whose id Celery would take for the same task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery.worker import state

from tasks import app
from tasks.broker.messages import DISPATCH_HEADER, DISPATCHES, fence_of
from tasks.worker import repeats
from tasks.worker.repeats import Repeats
from tests.live import LivePlatform, eventually
from tests.messages import Forged, send, task_headers
from tests.platform.test_cancel import RETRY, receipt, start_nap
from tracking.models import Fence

JOB = uuid4()
QUERY = (
    "import json; from tasks import app\n"
    "told = app.control.inspect(timeout=1).query_task([stdin])\n"
    "print(json.dumps([info for worker in told.values() for info in worker.values()]))"
)
INTERRUPT = "import json; from tasks import app; app.control.broadcast('interrupt', json.loads(stdin), reply=True)"
TERMINATE = "from tasks import app; app.control.revoke(stdin, terminate=True, signal='SIGUSR1')"


class Desk:
    """Takes the place of a worker: notes what is run and answered, and what is to be looked at again."""

    def __init__(self) -> None:
        self.run: list[Any] = []
        self.refused: list[Any] = []
        self.given_back: list[Any] = []
        self.later: list[Callable[[], None]] = []
        self.app = app
        self.hostname = "worker-1"
        self.timer = SimpleNamespace(call_after=self._call_after)
        answers: Any = SimpleNamespace(
            after=lambda message, *_: self.refused.append(message), give_back=self.given_back.append
        )
        self.repeats = Repeats(self, answers, self.run.append)

    def look_again(self) -> None:
        """Let the time pass for which it waits."""
        later, self.later = self.later, []
        for look in later:
            look()

    def _call_after(self, seconds: float, look: Callable[..., None], args: tuple[Any, ...]) -> None:
        assert seconds == repeats.PAUSE
        self.later.append(lambda: look(*args))


@pytest.fixture
def desk() -> Desk:
    """A worker that has nothing."""
    return Desk()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker has the second dispatch of the job."""
    monkeypatch.setitem(state.requests, str(JOB), SimpleNamespace(fence=Fence(JOB, 2)))


def _message(dispatch: int, job_id: UUID = JOB) -> Any:
    return SimpleNamespace(headers={"id": str(job_id), DISPATCH_HEADER: dispatch})


@pytest.mark.parametrize("dispatch", [1, 2])
@pytest.mark.usefixtures("held")
def test_a_dispatch_that_its_worker_has_or_had_is_refused(desk: Desk, dispatch: int) -> None:
    """A dispatch that its worker has or had is refused before it becomes a request."""
    desk.repeats.take(_message(dispatch))
    assert (len(desk.refused), desk.run, desk.later) == (1, [], [])


@pytest.mark.usefixtures("held")
def test_the_next_dispatch_waits_until_its_worker_is_done_with_this_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next dispatch of a job waits until its worker is done with the current one."""
    message = _message(3)
    desk.repeats.take(message)
    desk.look_again()
    assert desk.run == []
    monkeypatch.delitem(state.requests, str(JOB))
    desk.look_again()
    assert desk.run == [message]
    assert (desk.refused, desk.given_back, desk.later) == ([], [], [])


@pytest.mark.usefixtures("held")
def test_the_next_dispatch_goes_back_to_the_broker_in_the_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A next dispatch that waited too long goes back to the broker."""
    now = [100.0]
    monkeypatch.setattr("tasks.worker.repeats.time.monotonic", lambda: now[0])
    message = _message(3)
    desk.repeats.take(message)
    while desk.later:
        now[0] += repeats.PAUSE
        desk.look_again()
    assert (desk.given_back, desk.run) == ([message], [])
    assert now[0] - 100 == pytest.approx(repeats.PATIENCE, abs=2 * repeats.PAUSE)


@pytest.mark.usefixtures("held")
def test_a_message_of_another_job_is_run(desk: Desk) -> None:
    """A message of another job is run, whatever else the worker has."""
    message = _message(1, uuid4())
    desk.repeats.take(message)
    assert desk.run == [message]


@pytest.mark.parametrize("number", [0, -1, DISPATCHES[-1] + 1, True, "1", 1.0, None])
def test_a_number_that_no_dispatch_can_have_makes_no_message_ours(number: Any) -> None:
    """A message with an impossible dispatch number is a foreign one."""
    assert fence_of(str(JOB), {DISPATCH_HEADER: number}) is None
    assert fence_of(str(JOB), {DISPATCH_HEADER: DISPATCHES[-1]}) == Fence(JOB, DISPATCHES[-1])


# With a worker


def _again(running: LivePlatform, job_id: UUID, dispatch: int) -> None:
    """Its message once more, as a broker may deliver it."""
    headers = task_headers("nap", str(job_id), **{DISPATCH_HEADER: dispatch})
    send(running.broker_url, Forged(headers, b'[[], {"payload": {"seconds": 0}}, {}]'))


def _refusals(running: LivePlatform, job_id: UUID) -> list[tuple[str, int]]:
    entries = [each for each in running.history(job_id) if each.event == "duplicate_refused"]
    return [(each.detail["reason"], each.detail["dispatch"]) for each in entries]


def _in_second_dispatch(running: LivePlatform) -> UUID:
    """A job that was cancelled in its first, and whose body runs again."""
    job_id = start_nap(running)
    running.run(TERMINATE, str(job_id))
    eventually(lambda: not running.job(job_id).stopping and running.job(job_id).status == "cancelled", what="the stop")
    running.run(RETRY, str(job_id))
    eventually(lambda: running.job(job_id).message == "nap 1", what="its first step")
    return job_id


def test_a_message_that_comes_again_while_its_body_runs_is_refused_and_told(running: LivePlatform) -> None:
    """A copy of a running job's message is refused and recorded; the body goes on."""
    job_id = running.submit("nap", payload={"seconds": 6})
    running.wait_for(job_id, "running")
    _again(running, job_id, 1)
    eventually(lambda: _refusals(running, job_id), what="the refusal")
    assert [job_id.hex for told in json.loads(running.run(QUERY, str(job_id)))] == [job_id.hex]
    assert running.wait_for(job_id).attempt == 1
    assert _refusals(running, job_id) == [("repeated", 1)]
    assert running.events(job_id).count("started") == 1


def test_a_message_of_an_older_dispatch_is_refused_and_told(running: LivePlatform) -> None:
    """A message of an older dispatch is refused, and history tells it."""
    job_id = _in_second_dispatch(running)
    _again(running, job_id, 1)
    eventually(lambda: _refusals(running, job_id), what="the refusal")
    assert _refusals(running, job_id) == [("stale", 1)]
    running.run(TERMINATE, str(job_id))


def test_an_interruption_of_an_older_dispatch_leaves_the_body_alone(running: LivePlatform) -> None:
    """An interruption of an older dispatch leaves the current body alone."""
    job_id = _in_second_dispatch(running)
    running.run(INTERRUPT, json.dumps({"task_id": str(job_id), "dispatch": 1}))
    assert running.job(job_id).status == "running"
    running.run(TERMINATE, str(job_id))
    running.wait_for(job_id, "cancelled", within=20)
    assert receipt(running, job_id) == "interrupted"


def test_a_worker_finds_a_job_by_its_id_in_each_attempt(running: LivePlatform) -> None:
    """`inspect query_task` finds a job by its id in each attempt."""
    job_id = _in_second_dispatch(running)
    [[where, told]] = json.loads(running.run(QUERY, str(job_id)))
    assert (where, told["id"], told["name"]) == ("active", str(job_id), "nap")
    running.run(TERMINATE, str(job_id))
    running.wait_for(job_id, "cancelled", within=20)


def test_an_own_text_names_a_job_for_remote_control_too(running: LivePlatform, tmp_path: Path) -> None:
    """Remote control finds a job by a task_id that is no UUID."""
    named = f"report of {tmp_path.name}"
    send_it = "import json; from tasks import app\nname, witness = json.loads(stdin)\n"
    running.run(
        send_it + "app.send_task('nap', kwargs={'payload': {'seconds': 30, 'witness': witness}}, task_id=name)",
        json.dumps([named, str(tmp_path / "witness")]),
    )
    eventually(lambda: "active" in running.run(QUERY, named), what="the start")
    eventually((tmp_path / "witness").exists, what="the begin of the body")
    running.run(TERMINATE, named)
    [job] = [each for each in running.jobs() if each.delivery.get("task_id") == named]
    running.wait_for(job.id, "cancelled", within=20)
    assert receipt(running, job.id) == "interrupted"
