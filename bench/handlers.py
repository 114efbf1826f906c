"""The bench's handlers, imported by Celeriac's worker and API through CELERIAC_IMPORTS."""

from __future__ import annotations

import os
import socket
import time

from bench import variables
from bench.witness import MARK, leave_mark
from tasks import BaseModel, app

# A queue of this run alone: on a RabbitMQ that others use too, a worker of theirs might take the job.
QUEUE = os.environ.get(variables.QUEUE)


@app.task(name="bench.noop", public=True, queue=QUEUE)
def noop() -> None:
    """Do nothing."""
    leave_mark()


@app.task(name="bench.bundled", public=True, queue=QUEUE, bundle=True)
def bundled() -> None:
    """Do nothing, several at once."""
    leave_mark()


class Call(BaseModel):
    """Where somebody waits to hear that the body has started: the path of a Unix datagram socket."""

    address: str
    seconds: float = 0  # that it takes after that


@app.task(pydantic=True, name="bench.call", public=True, queue=QUEUE)
def call(payload: Call) -> None:
    """Tell the caller the time at which the body starts."""
    now = time.time()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(MARK.pack(now), payload.address)
    time.sleep(payload.seconds)
