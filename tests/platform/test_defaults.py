"""What Celery does by default: the middle of the table in the README, shown on a Celery with no settings of its own.

The right of the table is shown by the tests that stand beside each line here.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from tests.live import eventually
from tests.servers import Servers

ROOT = Path(__file__).parents[2]
NOBODY = "redis://127.0.0.1:9/0"  # the port of the discard protocol, on which nothing listens
ROWS: dict[str, str] = {}

Shown = Callable[..., None]


def row(line: str, here: str) -> Callable[[Shown], Shown]:
    """A line of the table, by its first words; `here`: the test of what happens here instead."""

    def keep(test: Shown) -> Shown:
        ROWS[line] = here
        return test

    return keep


class Stock:
    """A Celery with a Valkey, which may have workers."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url, self.file = url, directory / "lines"
        self.broker = redis.Redis.from_url(url)
        self.app = Celery("stock", broker=url, backend=url, set_as_current=False)

    @property
    def lines(self) -> list[str]:
        """What the tasks have written."""
        return self.file.read_text().splitlines() if self.file.exists() else []

    def send(self, task: str, *arguments: str, **options: Any) -> Any:
        return self.app.send_task(f"stock.{task}", arguments, **options)

    def left(self) -> int:
        """How many messages the broker has, acknowledged by nobody."""
        return int(self.broker.llen("celery")) + int(self.broker.hlen("unacked"))

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """A worker with one child, killed at the end with all that it started."""
        command = [sys.executable, "-m", "celery", "-A", "tests.stock_celery", "worker", "-c", "1", "-l", "ERROR"]
        named = {"BROKER_URL", "CELERY_BROKER_URL"}  # which Celery's command would take
        environment = {
            **{name: value for name, value in os.environ.items() if name not in named},
            "STOCK_URL": self.url,
        }
        worker = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
        try:
            yield worker
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait(10)
            # As long as Valkey takes a connection of its children for open, it may give the next message to that.
            eventually(
                lambda: not [each for each in self.broker.client_list() if (each["db"], each["cmd"]) == ("9", "brpop")]
            )


@pytest.fixture
def stock(servers: Servers, tmp_path: Path) -> Iterator[Stock]:
    """A Celery on an empty database of Valkey, which nobody else uses."""
    url = f"{servers.valkey_url.rpartition('/')[0]}/9"
    stock = Stock(url, tmp_path)
    stock.broker.flushdb()
    yield stock
    stock.app.close()
    stock.broker.flushdb()
    stock.broker.close()


@row(
    "A worker is killed while it runs a job",
    here="platform/test_loss.py::test_a_job_whose_process_is_killed_runs_again",
)
def test_a_task_whose_worker_is_killed_is_gone(stock: Stock) -> None:
    """A task was acknowledged before it began: when its worker is killed, nobody has it and nobody is told."""
    with stock.worker():
        result = stock.send("linger", str(stock.file))
        eventually(lambda: (stock.lines, stock.left()) == (["begun"], 0))  # acknowledged as it began
    assert (stock.left(), result.state) == (0, "PENDING")


@row(
    "The broker is away when you ask for a job",
    here="platform/test_faults.py::test_jobs_are_accepted_in_the_usual_time_without_a_broker",
)
def test_a_task_that_is_asked_for_without_a_broker_is_an_error() -> None:
    """Asking for a task without a broker raises, and the task is nowhere."""
    with Celery("away", broker=NOBODY, set_as_current=False) as away, pytest.raises(OperationalError):
        away.send_task("stock.note", ignore_result=True)


@row("You ask for the state of a job", here="api/test_reading.py::test_the_status_says_what_can_be_done")
def test_a_task_that_waits_and_one_that_never_was_are_both_pending(stock: Stock) -> None:
    """The state of what waits, of what runs and of what nobody asked for is the same word."""
    waiting = stock.send("note", str(stock.file), "waits")
    assert waiting.state == stock.app.AsyncResult(str(uuid4())).state == "PENDING"


@row("A message comes twice", here="platform/test_faults.py::test_the_same_message_ten_times_runs_one_body")
def test_a_task_whose_message_comes_twice_runs_twice(stock: Stock) -> None:
    """The body runs once for each message, of whatever id."""
    for _ in range(2):
        stock.send("note", str(stock.file), "again", task_id="one-id")
    with stock.worker():
        eventually(lambda: stock.lines == ["again", "again"])


@row(
    "You cancel a job while no worker runs",
    here="platform/test_revoking.py::test_a_revocation_is_in_the_row_when_the_call_returns",
)
def test_a_revocation_that_no_worker_hears_is_forgotten(stock: Stock) -> None:
    """Revocations are kept in the memory of the workers that heard of them: one that starts later runs the task."""
    result = stock.send("note", str(stock.file), "revoked")
    stock.app.control.revoke(result.id)
    with stock.worker():
        eventually(lambda: stock.lines == ["revoked"])


@row("A job is to run in two hours", here="tracking/jobs/test_dispatch.py::test_a_job_is_not_released_before_it_is_due")
def test_a_task_of_later_lies_in_the_memory_of_a_worker(stock: Stock) -> None:
    """What is due later is taken by a worker at once, and given to the next one when an hour has passed."""
    stock.send("note", str(stock.file), "later", countdown=7200)
    with stock.worker():
        eventually(lambda: (stock.broker.llen("celery"), stock.broker.hlen("unacked")) == (0, 1))
    with stock.app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        assert channel.visibility_timeout == 3600


@row(
    "An attempt failed, and a later one succeeded",
    here="tracking/test_queries.py::test_attempts_are_put_together_from_the_history",
)
def test_of_attempts_that_failed_nothing_is_kept(stock: Stock) -> None:
    """The result holds the last state; what the attempts before it raised, where and when, is not kept."""
    result = stock.send("fail_twice")
    with stock.worker():
        assert result.get(timeout=60) == "in the end"
    kept = stock.broker.get(f"celery-task-meta-{result.id}")
    assert isinstance(kept, bytes)
    assert b"attempt" not in kept
    remaining = stock.broker.ttl(f"celery-task-meta-{result.id}")
    assert isinstance(remaining, int)
    assert 86000 < remaining <= 86400  # and for a day at most


def test_the_table_of_the_readme_has_these_lines() -> None:
    """The README's table has the lines that are shown here, and each names a test that is there."""
    table = re.findall(r"^\| ([A-Z][^|]+?) \| [^|]+ \| [^|]+ \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert table == list(ROWS)
    for here in ROWS.values():
        file, _, name = here.partition("::")
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), here
