"""What Celery finds of a job by its id: in the job itself, from outside, and in the events of the worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks import app
from tasks.backend import RowBackend
from tests.live import LivePlatform, eventually
from tests.platform.test_cancel import RETRY
from tracking.identifiers import job_id_of

ASK = "import json; from tasks import app; result = app.AsyncResult(json.loads(stdin))\n"

# The signature of an errback.
REMEMBER: dict[str, Any] = {
    "task": "remember",
    "args": [],
    "kwargs": {},
    "options": {},
    "subtask_type": None,
    "immutable": False,
}

# The Celery ids of the events of one job, which fails once.
EVENTS = """
import json, threading
from tasks import app
seen, ready, ended = {}, threading.Event(), threading.Event()
def hear(event):
    ready.set()
    if event.get("root_id") is not None:
        seen.setdefault(event["root_id"], set()).add(event["uuid"])
    if event["type"] == "task-succeeded":
        ended.set()
def listen():
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": hear})
        for _ in receiver.itercapture(limit=None, timeout=30, wakeup=True):
            if ended.is_set():
                return
threading.Thread(target=listen, daemon=True).start()
for _ in range(100):
    app.control.broadcast("enable_events")
    app.control.broadcast("heartbeat")
    if ready.wait(0.2):
        break
job = app.send_task("identified", json.loads(stdin))
job.get(timeout=20)
assert ended.wait(20)
print(json.dumps({"job": job.id, "seen": sorted(seen[job.id])}))
"""


def _witness(path: Path, *starts: int) -> list[str]:
    """The Celery ids under which the attempts ran."""
    eventually(lambda: path.exists() and len(path.read_text().splitlines()) in starts, what="the attempts")
    return path.read_text().splitlines()


@pytest.fixture(scope="module")
def retried(running: LivePlatform, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job with three attempts: its id, and what each of them had for it."""
    witness = tmp_path_factory.mktemp("retried") / "ids"
    job = running.wait_for(running.submit("identified", str(witness), 2))
    assert (job.status, job.attempt) == ("succeeded", 3)
    return {"job": str(job.id), "ids": _witness(witness, 3)}


def test_every_attempt_has_the_same_id(retried: dict[str, Any]) -> None:
    """`self.request.id` is the same in every attempt."""
    assert set(retried["ids"]) == {retried["job"]}


def test_the_attempts_of_a_job_that_was_lost_have_the_same_id(running: LivePlatform, tmp_path: Path) -> None:
    """`self.request.id` is the same after the loss of a worker."""
    job = running.wait_for(running.submit("die", payload={"witness": str(tmp_path / "ids")}))
    assert set(_witness(tmp_path / "ids", 2)) == {str(job.id)}


def test_the_attempts_of_a_job_that_was_retried_by_hand_have_the_same_id(running: LivePlatform, tmp_path: Path) -> None:
    """`self.request.id` is the same after a retry by hand."""
    job_id = running.submit("identified", str(tmp_path / "ids"), 9, max_retries=0)
    running.wait_for(job_id, "failed")
    running.run(RETRY.replace("actor='u1'", "actor='u1', force=True"), str(job_id))
    assert set(_witness(tmp_path / "ids", 2)) == {str(job_id)}


def test_a_result_is_found_under_the_id_of_any_attempt(running: LivePlatform, retried: dict[str, Any]) -> None:
    """AsyncResult finds the job under the id that any attempt has seen."""
    states = {running.run(ASK + "print(result.state)", json.dumps(each)).strip() for each in retried["ids"]}
    assert states == {"SUCCESS"}


def test_an_errback_after_a_retry_is_told_an_id_that_leads_somewhere(running: LivePlatform, tmp_path: Path) -> None:
    """An errback after a retry gets an id under which AsyncResult finds the job."""
    job_id = running.submit("identified", str(tmp_path / "ids"), 9, max_retries=1, link_error=REMEMBER)
    running.wait_for(job_id, "failed")
    [errback] = eventually(lambda: [job for job in running.jobs() if job.job_type == "remember" and job.result])
    assert errback.result == str(job_id)


def test_the_events_of_a_job_are_those_of_one_task(running: LivePlatform, tmp_path: Path) -> None:
    """Celery's events of a job, through all attempts, are those of one task."""
    told = json.loads(running.run(EVENTS, json.dumps([str(tmp_path / "ids"), 1])))
    assert told["seen"] == [told["job"]]


def test_a_text_of_ones_own_names_the_job(running: LivePlatform) -> None:
    """A task_id that is no UUID finds the job's result."""
    code = (
        "import json; from tasks import app\nresult = app.tasks['add'].apply_async((1, 2), task_id=json.loads(stdin))\n"
    )
    told = running.run(
        code + "print(json.dumps([result.id, result.get(timeout=10)]))", json.dumps(given := "invoice 7")
    )
    assert json.loads(told) == [given, 3]


def test_a_text_of_ones_own_names_the_job_in_each_attempt(running: LivePlatform, tmp_path: Path) -> None:
    """A task_id that is no UUID is the id in each attempt, and of the errback."""
    named = f"the job of {tmp_path.name}"
    send = "import json; from tasks import app\nname, witness, errback = json.loads(stdin)\n"
    send += "app.send_task('identified', (witness, 9), task_id=name, max_retries=1, link_error=errback)"
    running.run(send, json.dumps([named, str(tmp_path / "ids"), REMEMBER]))
    job = running.wait_for(job_id_of(named), "failed")
    assert _witness(tmp_path / "ids", 2) == [named] * 2
    assert (job.attempt, job.dispatch) == (2, 2)
    eventually(lambda: [each for each in running.jobs() if each.job_type == "remember" and each.result == named])


def test_texts_name_the_members_of_a_canvas(running: LivePlatform, tmp_path: Path) -> None:
    """Members of a canvas with text ids are found by them, and rows name their parents."""
    first, last = f"first of {tmp_path.name}", f"last of {tmp_path.name}"
    code = (
        "import json; from tasks import app; from tests.sample_handlers import add\nfirst, last = json.loads(stdin)\n"
        "result = (add.s(1, 2).set(task_id=first) | add.s(3).set(task_id=last)).delay()\n"
        "ended = [result.id, result.get(timeout=10), result.parent.id, app.AsyncResult(first).get()]\n"
        "print(json.dumps([*ended, [child.id for child in app.AsyncResult(first).children]]))"
    )
    assert json.loads(running.run(code, json.dumps([first, last]))) == [last, 6, first, 3, [last]]
    row = running.job(job_id_of(last))
    assert (row.parent_id, row.root_id) == (job_id_of(first), job_id_of(first))


def test_an_id_that_no_row_can_keep_is_refused(running: LivePlatform) -> None:
    """A task_id that no row can keep is refused in one line before anything is written."""
    code = "import json; from tasks import app\ntry:\n    app.send_task('noop', task_id=json.loads(stdin))\n"
    for named in ("x" * 256, "a\x00b"):
        told = running.run(code + "except Exception as error:\n    print(type(error).__name__)", json.dumps(named))
        assert told.strip() == "InvalidValue"


def test_what_waits_in_its_row_is_known_and_what_nobody_has_submitted_is_not(running: LivePlatform) -> None:
    """Of a PENDING result, name and queue tell a waiting job from an unknown id."""
    ask = ASK + "print(json.dumps([result.state, result.name, result.queue]))"
    waiting, unknown = running.submit("add", 1, 2, countdown=3600), uuid4()
    assert json.loads(running.run(ask, json.dumps(str(waiting)))) == ["PENDING", "add", "default"]
    assert json.loads(running.run(ask, json.dumps(str(unknown)))) == ["PENDING", None, None]
    assert json.loads(running.run(ask, json.dumps("an id of nobody"))) == ["PENDING", None, None]


def test_a_result_knows_the_jobs_that_its_body_sent(running: LivePlatform) -> None:
    """`AsyncResult.children` has the jobs that the body sent."""
    job = running.wait_for(running.submit("parent", 2))
    told = running.run(ASK + "print(json.dumps([each.id for each in result.children]))", json.dumps(str(job.id)))
    assert json.loads(told) == job.result


def test_a_failed_result_has_its_traceback_and_exception(running: LivePlatform) -> None:
    """A failed AsyncResult has the traceback and the exception."""
    job = running.wait_for(running.submit("fail", "of no use"))
    ask = ASK + "print(json.dumps([result.state, repr(result.info), result.traceback]))"
    state, info, traceback = json.loads(running.run(ask, json.dumps(str(job.id))))
    assert (state, info) == ("FAILURE", "ValueError('of no use')")
    assert traceback.rstrip().endswith("ValueError: of no use")


def test_a_rejected_result_raises_what_was_raised(running: LivePlatform) -> None:
    """`get()` of a rejected job raises Celery's Reject."""
    job = running.wait_for(running.submit("rejecting"))
    ask = (
        ASK
        + "from celery.exceptions import Reject\ntry:\n    result.get()\nexcept Reject as error:\n    print(error.args)"
    )
    assert running.run(ask, json.dumps(str(job.id))).strip() == "('no', False)"


def test_a_running_result_has_the_progress_of_its_body(running: LivePlatform) -> None:
    """`AsyncResult.info` of a running job is what update_state said last."""
    job_id = running.submit("updating", {"current": 3, "total": 4})
    ask = ASK + "print(json.dumps([result.state, result.info]))"
    wanted = ["STARTED", {"current": 3, "total": 4}]
    eventually(lambda: json.loads(running.run(ask, json.dumps(str(job_id)))) == wanted, what="the progress")
    assert running.job(job_id).progress == 75
    running.run(ASK + "result.revoke()", json.dumps(str(job_id)))


def test_whoever_waits_for_a_result_looks_often_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """`get()` returns a quick job's result within milliseconds."""
    pauses: list[float] = []
    looks = iter(["PENDING", "PENDING", "STARTED", "SUCCESS"])
    monkeypatch.setattr("tasks.backend.time.sleep", pauses.append)

    class Watched(RowBackend):
        def get_task_meta(self, *_: Any, **_options: Any) -> dict[str, Any]:
            return {"status": next(looks)}

    backend: Any = Watched(app=app)
    assert backend.wait_for(str(uuid4()), timeout=5) == {"status": "SUCCESS"}
    assert sum(pauses) < 0.1
