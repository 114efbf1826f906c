"""How a worker ends that cannot start or cannot go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from sqlalchemy import make_url

from tests.exiting import SECRET, check, ended
from tracking.exit_status import Exit


@pytest.mark.parametrize("scheme", ["redis://:", "amqp://guest:"])
def test_a_broker_that_is_away_is_status_3(scheme: str, closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away ends `celeriac worker`, and no other command, with status 3."""
    monkeypatch.setenv("BROKER_URL", f"{scheme}{SECRET}@127.0.0.1:{closed}/")
    check(ended("worker"), Exit.AWAY, "the broker is away: ")


def test_a_broker_that_refuses_us_is_status_2(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that refuses the password ends `celeriac worker` with status 2 at once."""
    wrong = make_url(broker_url).set(password=SECRET).render_as_string(hide_password=False)
    monkeypatch.setenv("CELERIAC_START_PATIENCE", "60")
    monkeypatch.setenv("BROKER_URL", wrong)
    check(ended("worker"), Exit.MISUSED, "BROKER_URL: the broker refuses it: ")


BROKEN = {
    "missing": (None, "there is no module 'handlers_of_mine'"),
    "raising": ("x = 1\nraise ValueError('no such disk')\n", "ValueError: no such disk (handlers_of_mine.py, line 2)"),
    "misspelt": ("import jsn\n", "No module named 'jsn' (handlers_of_mine.py, line 1)"),
    "leaving": ("import sys\nsys.exit()\n", "SystemExit"),
    "syntax": ("def\n", "SyntaxError: invalid syntax (handlers_of_mine.py, line 1)"),
}


@pytest.mark.parametrize(("name", "fault"), [*(("worker", fault) for fault in BROKEN), ("api", "raising")])
def test_handlers_that_cannot_be_imported_are_status_2(name: str, fault: str, handlers: Path) -> None:
    """Handlers that cannot be imported are status 2, and the line names the module and the place."""
    code, line = BROKEN[fault]
    if code is not None:
        handlers.write_text(code)
    check(ended(name), Exit.MISUSED, line)


def test_debug_shows_where_an_error_comes_from(handlers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`celeriac --debug` shows the traceback of an error."""
    handlers.write_text("raise ValueError('no such disk')\n")
    monkeypatch.setenv("CELERIAC_DEBUG", "true")
    end = ended("worker")
    assert end.status == Exit.MISUSED
    assert "Traceback" in end.err


END_OF_CONSUMER = """
from celery import bootsteps
from tasks import app

class Broken(bootsteps.StartStopStep):
    requires = {"celery.worker.consumer.tasks:Tasks"}

    def start(self, parent):
        raise RuntimeError("its end")

app.steps["consumer"].add(Broken)
"""
DYING_POOL = """
import os
from celery.signals import worker_process_init
worker_process_init.connect(lambda **_: os._exit(3), weak=False)
"""
NO_FORK = """
import os
from celery.signals import worker_init

def no_fork():
    raise BlockingIOError(11, "Resource temporarily unavailable")

worker_init.connect(lambda **_: setattr(os, "fork", no_fork), weak=False)
"""
FATAL = {
    "consumer": (END_OF_CONSUMER, "RuntimeError: a fault of its own"),
    "pool": (DYING_POOL, "it cannot start its processes"),
    "fork": (NO_FORK, "Resource temporarily unavailable"),
}


@pytest.mark.parametrize("fault", FATAL)
def test_a_worker_that_cannot_go_on_is_status_1(
    fault: str, handlers: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that cannot go on ends with status 1."""
    code, line = FATAL[fault]
    handlers.write_text(code)
    monkeypatch.setenv("DATABASE_URL", database_url)
    end = ended("worker")
    assert end.status == Exit.FAILED, end
    assert [text for text in end.err.splitlines() if "worker.failed" in text and line in text], end.err


def test_a_queue_that_was_made_otherwise_is_status_2(
    rabbitmq_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that exists with other arguments ends `celeriac worker` with status 2."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("BROKER_URL", rabbitmq_url)
    monkeypatch.setenv("CELERIAC_START_PATIENCE", "30")  # a busy RabbitMQ is away for a moment, which would be status 3
    with Connection(rabbitmq_url) as connection:
        channel: Any = connection.default_channel
        channel.queue_delete("maintenance")
        channel.queue_declare("maintenance", durable=True, auto_delete=False)
        try:
            end = ended("worker", "--queues", "maintenance")
        finally:
            channel.queue_delete("maintenance")
    # What amqp says of a channel that both sides close at once may come after the line.
    said = [line for line in end.err.splitlines() if "during closing channel" not in line]
    check(replace(end, err="\n".join(said)), Exit.MISUSED, "BROKER_URL: a queue was made otherwise")
