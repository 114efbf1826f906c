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

from celery import Signature, chain, group

from bench.chaos import variables
from bench.chaos.handlers import Work, deaf, flaky, quick, work
from bench.chaos.journal import note, unanswered
from bench.chaos.world import UNLIMITED
from tasks import app
from tracking.logs import configure_logging
from tracking.ownership import acting_as
from tracking.settings import settings

BURST = 150  # jobs that are accepted in one transaction, and sent as fast as can be
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
    for kind in itertools.cycle(("quick", "work", "flaky", "later", "chain", "urgent", "deaf", "burst")):
        if kind == "burst":
            _burst(journal, canaries)
            continue
        organization = random.choice(sorted(canaries))
        entry = {"id": str(uuid4()), "kind": kind, "organization": organization, "state": "asked"}
        note(journal, entry)
        _send(journal, entry, canaries)
        if over.wait(random.uniform(0, 2 * PAUSE)):
            break
    app.platform.dispatcher.close()


def _burst(journal: Path, canaries: dict[str, str]) -> None:
    entries = [{"id": str(uuid4()), "kind": "quick", "organization": UNLIMITED, "state": "asked"} for _ in range(BURST)]
    for entry in entries:
        note(journal, entry)
    try:
        with acting_as(UNLIMITED, "producer"):
            group(_member(entry["id"], canaries[UNLIMITED]) for entry in entries).apply_async()
    except Exception as error:  # noqa: BLE001 - as below
        print(f"the burst failed: {type(error).__name__}", file=sys.stderr, flush=True)
        for entry in entries:
            _send(journal, entry, canaries)
    else:
        for entry in entries:
            note(journal, {**entry, "state": "accepted"})


def _member(job_id: str, canary: str) -> Signature[Any]:
    return quick.s(_payload(job_id, canary)).set(task_id=job_id)


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
    payload = _payload(job_id, canary)
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


def _payload(job_id: str, canary: str) -> dict[str, Any]:
    chance = random.Random(job_id)  # a call that is repeated must be the same call
    return Work(canary=canary, seconds=chance.uniform(0.2, 2), failures=chance.randint(1, 2)).model_dump()


if __name__ == "__main__":
    main()
