"""`python -m tests.leaders 2`: so many leaders that look at schedules until none is due, each replaced when it dies.

It says how many have died at the points of CELERIAC_CRASH_AT. The platform is imported once, and each is a fork.
"""

from __future__ import annotations

import os
import signal
import sys

from tasks import app
from tasks.app import import_handlers
from tasks.leader.schedules import Scheduling
from tracking.settings import settings


def _lead() -> None:
    scheduling = Scheduling(app.platform, batch=10)
    while scheduling.turn():
        pass


def _begin() -> int:
    child = os.fork()
    if child == 0:
        _lead()
        os._exit(0)
    return child


def main(number: int) -> int:
    import_handlers(settings())
    running, died = {_begin() for _ in range(number)}, 0
    while running:
        child, status = os.wait()
        running.remove(child)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            died += 1
            running.add(_begin())
        else:
            assert os.waitstatus_to_exitcode(status) == 0
    return died


if __name__ == "__main__":
    sys.stdout.write(str(main(int(sys.argv[1]))))
