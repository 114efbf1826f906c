"""`celeriac up`, `api`, `worker` and `demo`: what runs until it is told to stop."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from celeriac.commands.names import Name, Names
from celeriac.commands.program import Command

# ruff: noqa: PLC0415  each command pays only for what it runs, and its help for nothing


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the API listens on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--data-dir", type=click.Path(file_okay=False), help="Servers, secrets, exports. [default: .celeriac]")
@click.option("--concurrency", default=2, show_default=True, type=click.IntRange(1), help="Jobs that run at once.")
@click.option("--imports", type=Names(), help="Modules with your handlers. [default: CELERIAC_IMPORTS]")
@click.option("--queues", type=Names(), help="Of its worker. [default: all that jobs go to by themselves]")
@click.option("--reload", is_flag=True, help="Start worker and API again when a Python file here changes.")
@click.option("--flower", is_flag=True, help="Run Flower as well, behind a password; it takes celeriac[flower].")
@click.option("--flower-port", default=5555, show_default=True, type=click.IntRange(1, 65535), help="Of Flower.")
@click.option("--verbose", is_flag=True, help="Show what the parts print even when nothing is wrong.")
def up(data_dir: str | None, imports: tuple[str, ...] | None, **wanted: Any) -> None:
    """Run everything here: PostgreSQL, Valkey, a worker and the API.

    It is quiet unless something is wrong; a job that fails is shown with its error and the frames of your own code.
    """
    from tracking.settings import settings

    # The environment, not an argument: the parts, and what they import, read the same setting.
    os.environ["CELERIAC_DATA_DIR"] = str(Path(data_dir or settings().data_dir).absolute())
    if imports is not None:
        os.environ["CELERIAC_IMPORTS"] = ",".join(imports)
    settings.cache_clear()
    from celeriac.commands import registered
    from celeriac.embedded.up import Wanted, run_platform

    def permissions() -> set[str]:
        # Whoever starts the platform operates it: workers and queues are theirs to see.
        return {*registered.IN_ORGANIZATION, *registered.OF_PLATFORM, *registered.permissions()}

    run_platform(settings(), Wanted(**wanted), permissions=permissions)


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
@click.option("--fd", type=int, hidden=True, help="A listening socket that `up` made.")
def api(host: str, port: int, workers: int, fd: int | None) -> None:
    """Run the API alone. Without its database it starts all the same, and answers 503 until that is there."""
    from celeriac.preconditions import listen, require_database, require_imports, require_secret, require_servers
    from tracking.logs import configure_logging
    from tracking.settings import settings

    configured = settings()
    configure_logging(configured)
    require_servers(configured)
    require_imports(configured)
    if fd is None:
        require_secret(configured, host)
    require_database(configured)
    from celeriac.web import serve

    if fd is not None:
        serve(socket.socket(fileno=fd), workers)
        return
    with listen(host, port) as listener:
        serve(listener, workers)


@click.command(cls=Command)
@click.option(
    "--queues",
    type=Names(),
    help="Queues to take jobs from, comma-separated. [default: all that jobs go to by themselves]",
)
@click.option("--concurrency", type=click.IntRange(1), help="Jobs that run at once. [default: the number of CPUs]")
@click.option("--name", type=Name(), help="Part of its node name before the @. [default: one that no other has]")
@click.option(
    "--pool",
    default="prefork",
    type=click.Choice(["prefork", "threads", "solo"]),
    show_default=True,
    help="What bodies run in: only processes can be killed, or given a time limit.",
)
@click.option("--lease", type=click.UUID, hidden=True, help="Its lease, by which `up` finds it again.")
@click.option("--instead-of", type=Names(), default=(), hidden=True, help="Leases of the dead whose place it takes.")
def worker(
    *,
    queues: tuple[str, ...] | None,
    concurrency: int | None,
    name: str | None,
    pool: str,
    lease: UUID | None,
    instead_of: tuple[str, ...],
) -> int:
    """Run a worker alone; `celery -A tasks worker` is the same with all of Celery's options.

    It waits for its database and its broker, CELERIAC_START_PATIENCE seconds at most.
    """
    from celeriac.preconditions import require_imports, require_servers
    from tracking.logs import configure_logging
    from tracking.settings import QUEUES, settings

    require_servers(settings())
    require_imports(settings())
    configure_logging(settings())
    from celeriac.commands.worker import run_worker

    return run_worker(
        queues or QUEUES, concurrency, name, pool, lease=lease, instead_of=[UUID(each) for each in instead_of]
    )


@click.command(cls=Command)
@click.option("--jobs", default=300, show_default=True, type=click.IntRange(10, 10_000), help="How many to run.")
def demo(jobs: int) -> int:
    """Run real jobs and an export of them on a platform of its own, and check the result."""
    from celeriac.demo.story import run_demo

    return run_demo(jobs)
