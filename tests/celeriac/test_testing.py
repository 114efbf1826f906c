"""celeriac.testing: what those who write handlers test them with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from celeriac import BaseModel, Job, acting_as, app
from celeriac.testing import Enqueued, Ran, collected, run_inline

ENTRY = "celeriac.testing.plugin"


class Greeting(BaseModel):
    name: str
    times: int = 1


@app.task(bind=True, pydantic=True, name="testing.greet", public=True)
def greet(self: Job, payload: Greeting) -> dict[str, str]:
    """Greet somebody, and have others greeted."""
    with self.step("Think", 1, of=2):
        self.progress(20, "of what to say")
    with self.step("Speak", 2, of=2, percent=90):
        assert self.still_mine()
    if payload.times > 1:
        with acting_as("acme", "u1"):
            greet.apply_async((Greeting(name=payload.name),), countdown=60, priority=7)
    return {"said": f"hello {payload.name}"}


@app.task(name="testing.add", public=True)
def add(x: int, y: int = 1) -> int:
    return x + y


def test_a_handler_runs_inline_with_what_it_reports(run_job: Callable[..., Ran]) -> None:
    """What a handler returns, its steps, its percentages and its messages are recorded, in their order."""
    ran = run_job(greet, Greeting(name="you"))
    assert ran.result == {"said": "hello you"}
    assert [(step.name, step.current, step.of) for step in ran.steps] == [("Think", 1, 2), ("Speak", 2, 2)]
    assert ran.progress == [20, 50, 90]
    assert ran.messages == ["of what to say"]
    assert len(ran.enqueued) == 0


def test_json_is_checked_as_the_api_checks_it() -> None:
    """A payload as JSON gets its defaults, and is refused as the API would refuse it; arguments go by their names."""
    assert run_inline(greet, {"name": "you"}).result == {"said": "hello you"}
    assert run_inline(add, {"x": 40, "y": 2}).result == 42
    with pytest.raises(ValidationError, match="times"):
        run_inline(greet, {"name": "you", "times": "often"})


def test_what_a_handler_sends_is_collected() -> None:
    """A job that a handler sends is told with its owner, delay and priority, and goes nowhere."""
    [sent] = run_inline(greet, Greeting(name="you", times=2)).enqueued
    assert isinstance(sent, Enqueued)
    assert (sent.job_type, sent.payload["name"]) == ("testing.greet", "you")
    assert (sent.organization, sent.user, sent.priority) == ("acme", "u1", 7)
    assert sent.delay is not None
    assert 59 <= sent.delay.total_seconds() <= 60


def test_what_any_code_sends_is_collected(enqueued: Any) -> None:
    """Within a test that asks for it, every call of Celery's is collected, whatever sends it."""
    greet.delay(Greeting(name="a"))
    app.send_task("testing.add", args=[1])
    assert [each.job_type for each in enqueued] == ["testing.greet", "testing.add"]
    assert len(enqueued.of("testing.add")) == 1
    assert enqueued[0].payload["name"] == "a"


def test_blocks_that_collect_do_not_meet(enqueued: Any) -> None:
    """A job is in the innermost block that collects, and nowhere else."""
    with collected() as inner:
        add.delay(1)
    add.delay(2)
    assert (len(inner), len(enqueued)) == (1, 1)


def test_what_a_handler_raises_is_raised() -> None:
    """An error of a handler is the error of its test, and nothing is collected or heard afterwards."""

    @app.task(bind=True, name="testing.fail", public=True)
    def fail(self: Job) -> None:
        self.progress(10)
        raise LookupError("nowhere")

    with pytest.raises(LookupError, match="nowhere"):
        run_inline(fail)
    assert greet(Greeting(name="you")) == {"said": "hello you"}  # heard by nobody


def test_the_plugin_is_inert_until_it_is_used(tmp_path: Path) -> None:
    """Loaded by pytest in every session, it imports nothing of the platform, and hides no module of the user's."""
    (tmp_path / "tasks.py").write_text("mine = True\n")
    (tmp_path / "test_mine.py").write_text(
        "import sys\nimport tasks\n\n\ndef test_mine():\n"
        "    assert tasks.mine\n"
        f"    assert {ENTRY!r} in sys.modules\n"
        "    assert not {'celery', 'sqlalchemy', 'tracking', 'celeriac.client'} & sys.modules.keys()\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stdout
