"""How many jobs a second come into the database, and to the broker, when many are created at once.

`python -m bench.creates QUEUE COUNT FILE` does it in a process of its own, and writes what it took as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import text

from bench.launch import PATIENCE, clean_environment
from bench.servers import Broker, Servers, delete_queues
from bench.sides import TRACKED
from celeriac.embedded.processes import run
from tracking.db import Database
from tracking.settings import settings

AT_ONCE = 1000  # jobs in a statement, as a request for many takes them
WARM_UP = 2 * AT_ONCE
SLOWEST = 200.0  # jobs per second; slower is a failure


@dataclass(frozen=True)
class Creates:
    """Jobs a second of one broker: `stored` is until the commit, `sent` from then until their rows say so."""

    broker: str
    stored: float
    sent: float


def measure_creates(broker: Broker, servers: Servers, *, jobs: int, log_level: str) -> Creates:
    """Create so many no-op jobs without a limit; nobody runs them. Raises StartError when that takes too long."""
    queue = f"bench-creates-{uuid4().hex[:8]}"
    environment = {**clean_environment(), **TRACKED.environment(servers, broker, log_level)}
    found = servers.directory / f"{queue}.json"
    command = [sys.executable, "-m", "bench.creates", queue, str(jobs), str(found)]
    try:
        run(command, seconds=PATIENCE + jobs / SLOWEST, environment=environment)
    finally:
        delete_queues(broker, queue)
        _forget(servers, queue)
    return Creates(broker.name, **json.loads(found.read_text()))


def _forget(servers: Servers, queue: str) -> None:
    """Leave nothing that waits for ever: what is measured next has the tables for itself."""
    database = Database(servers.tracked_url, settings(), pool_size=1)
    try:
        with database.begin() as connection:
            connection.execute(text("DELETE FROM jobs WHERE queue = :queue"), {"queue": queue})
    finally:
        database.close()


@dataclass
class _Took:
    stored: float = 0.0
    sent: float = 0.0


def _create(queue: str, count: int) -> _Took:
    """The seconds that it takes; what the callers ask for is made before."""
    from tasks import app  # noqa: PLC0415 - in an environment of its own
    from tasks.broker.publisher import Publisher  # noqa: PLC0415 - as above
    from tasks.calls import new_job  # noqa: PLC0415 - as above
    from tasks.submission import whole_organization  # noqa: PLC0415 - as above
    from tracking import jobs  # noqa: PLC0415 - as above
    from tracking.models import Submitted  # noqa: PLC0415 - as above

    platform = app.platform
    publisher = Publisher(platform)
    wanted = [new_job(app, "bench.noop", None, None, task_id=None, options={"queue": queue}) for _ in range(count)]
    took = _Took()
    for start in range(0, count, AT_ONCE):
        began = time.perf_counter()
        with platform.database.begin() as connection:
            part = wanted[start : start + AT_ONCE]
            accepted = jobs.submit_all(connection, part, platform.limits, scope=whole_organization)
        took.stored += time.perf_counter() - began
        made = [each.job for each in accepted if isinstance(each, Submitted)]
        assert len(made) == len(part), "a job was refused"
        began = time.perf_counter()
        publisher.publish(made)
        took.sent += time.perf_counter() - began
    publisher.close()
    return took


def main(arguments: Sequence[str]) -> None:
    """Warm up, then create, and write jobs a second."""
    queue, count, file = arguments[0], int(arguments[1]), Path(arguments[2])
    _create(queue, min(WARM_UP, count))
    took = _create(queue, count)
    file.write_text(json.dumps({name: count / seconds for name, seconds in asdict(took).items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
