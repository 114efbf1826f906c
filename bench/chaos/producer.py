"""A process that sends jobs by `delay`, as code of a user's does, and notes each before and after the call.

Started again after a kill, it repeats what it does not know the answer to, under the same task id.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import chain

from bench.chaos import variables
from bench.chaos.handlers import Work, deaf, flaky, quick, work
from bench.chaos.journal import note, unanswered
from tasks import app
from tracking.logs import configure_logging
from tracking.ownership import acting_as
from tracking.settings import settings

PAUSE = 0.5  # seconds between two jobs, on average
RETRY = 0.5  # seconds before a call that failed is repeated


def main() -> None:
    """Send until told to stop by SIGTERM."""
    configure_logging(settings())
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    canaries: dict[str, str] = json.loads(os.environ[variables.CANARIES])
    journal = Path(os.environ[variables.JOURNAL])
    for entry in unanswered(journal):
        _send(journal, entry, canaries)
    for kind in itertools.cycle(("quick", "work", "flaky", "later", "chain", "urgent", "deaf")):
        organization = random.choice(sorted(canaries))
        entry = {"id": str(uuid4()), "kind": kind, "organization": organization, "state": "asked"}
        note(journal, entry)
        _send(journal, entry, canaries)
        if over.wait(random.uniform(0, 2 * PAUSE)):
            break
    app.platform.dispatcher.close()


def _send(journal: Path, entry: dict[str, Any], canaries: dict[str, str]) -> None:
    while True:
        try:
            with acting_as(entry["organization"], "producer"):
                _call(entry["kind"], entry["id"], canaries[entry["organization"]])
        except Exception as error:  # noqa: BLE001 - whatever a call raises while the database is away: repeat it
            print(f"the call for {entry['id']} failed: {type(error).__name__}", file=sys.stderr, flush=True)
            time.sleep(RETRY)
        else:
            note(journal, {**entry, "state": "accepted"})
            return


def _call(kind: str, job_id: str, canary: str) -> None:
    chance = random.Random(job_id)  # a call that is repeated must be the same call
    payload = Work(canary=canary, seconds=chance.uniform(0.2, 2), failures=chance.randint(1, 2)).model_dump()
    match kind:
        case "quick":
            quick.apply_async((payload,), task_id=job_id)
        case "urgent":
            quick.apply_async((payload,), task_id=job_id, priority=9)
        case "later":
            quick.apply_async((payload,), task_id=job_id, countdown=random.uniform(0.5, 3))
        case "work":
            work.apply_async((payload,), task_id=job_id, priority=random.randint(0, 8))
        case "deaf":
            deaf.apply_async((payload,), task_id=job_id)
        case "flaky":
            flaky.apply_async((payload,), task_id=job_id)
        case "chain":
            first = work.s({**payload, "seconds": 0.3}).set(task_id=job_id)
            chain(first, quick.s(), quick.s()).apply_async()


if __name__ == "__main__":
    main()
