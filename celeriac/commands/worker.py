"""The worker that `celeriac worker` runs."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import click
from celery.signals import setup_logging
from celery.utils.nodenames import gethostname, nodename

from celeriac import garbage
from celeriac.commands import registered
from celeriac.commands.names import similar
from tasks.app import app
from tracking.exit_status import Exit


def run_worker(
    queues: Sequence[str],
    concurrency: int | None,
    name: str | None,
    pool: str,
    *,
    lease: UUID | None,
    instead_of: Sequence[UUID],
) -> int:
    """Run a worker until it is told to stop or cannot go on; returns its exit status.

    `lease` None: one of its own. It takes back at once what was run under the leases `instead_of` which it comes.

    Raises ConfigurationError when a handler cannot be imported.
    """
    _warn_of_unknown(queues)
    setup_logging.connect(_leave_as_it_is, weak=False)
    node = nodename(name, gethostname()) if name else None
    worker = app.Worker(
        hostname=node,
        queues=list(queues),
        concurrency=concurrency,
        pool=pool,
        quiet=True,
        lease=lease,
        instead_of=instead_of,
    )
    garbage.look_from_now_on()
    worker.start()
    return Exit.FINE if worker.exitcode is None else worker.exitcode


def _warn_of_unknown(queues: Sequence[str]) -> None:
    known = registered.queues()
    for queue in queues:
        if queue not in known:
            hint = similar(queue, known)
            click.echo(f"celeriac: warning: only jobs that name it are sent to the queue {queue!r}{hint}", err=True)


def _leave_as_it_is(**_: object) -> None:
    """Celery sets up logging unless somebody listens to this signal; ours is set up already."""
