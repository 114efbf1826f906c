"""The application: routes, their common layer, and what lives as long as the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

import structlog
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from api import problems
from api.auth import verifier
from api.connections import LEAVING, MOST
from api.dashboard import app as dashboard
from api.envelope import Envelope
from api.live.hub import Hub
from api.live.reader import Reader
from api.metrics import Metrics
from api.openapi import DescribedApi, operation_id
from api.readiness import Readiness
from api.routes import (
    audit,
    bulk,
    changes,
    events,
    exports,
    fleet,
    health,
    job_types,
    jobs,
    operations,
    organization,
    projects,
    schedules,
    templates,
    webhooks,
    workflows,
)
from api.turns import Shares, Turns
from tasks.app import app as tasks
from tasks.app import import_handlers
from tasks.platform import Platform
from tracking.db import Database, ping

BULKS = 2  # requests with large bodies that are held at a time: each may take a hundred MiB when it is read
SPARE_THREADS = 20  # besides one for each database connection, of either pool: files
WARM_CONNECTIONS = 4
# A read must not take more than one of the server's processors. Nor is it planned without its values: what a search, or
# an organization, of average size would need takes a hundred times as long for a large one.
AS_ASKED = "-c max_parallel_workers_per_gather=0 -c plan_cache_mode=force_custom_plan"
MOST_STREAMS = 80  # percent of the connections of a process: the others are for requests that end
LAST_WORDS = 5.0  # seconds for messages that are still to go out

DESCRIPTION = """\
Create, watch, explain, cancel and retry jobs. A job that was answered with 202 is kept until it ends, whatever breaks.

Send `Authorization: Bearer <JWT>`. Times are UTC; every error is `application/problem+json` with a stable `code`.
Job ids are UUIDs. Somebody else's job is one that does not exist.
"""

log = structlog.get_logger(__name__)


def create_app(platform: Platform | None = None) -> FastAPI:
    """The API of a platform; None: that of this process's app. Raises ConfigurationError for what cannot be served."""
    platform = platform or tasks.platform
    import_handlers(platform.settings)
    app = DescribedApi(
        title="Celeriac",
        version=version("celeriac"),
        description=DESCRIPTION,
        lifespan=_lifespan,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
    )
    app.state.platform = platform
    app.state.verifier = verifier(platform.settings)
    app.state.readiness = Readiness(platform)
    app.state.turns = Turns(max(1, platform.settings.pool_size - 1))  # one connection is the dispatcher's
    app.state.bulks = Turns(BULKS)
    app.state.shares = Shares(platform.settings.pool_size)
    app.state.slow_reads = _slow_reads(platform)
    app.state.metrics = Metrics(platform, app.state.slow_reads)
    app.state.hub = Hub(max(1, platform.settings.api_connections * MOST_STREAMS // 100))
    app.state.reader = Reader(platform.settings, app.state.hub)
    app.add_middleware(Envelope)
    problems.install(app)
    for part in (
        *(jobs, bulk, operations, changes, audit, projects, job_types, organization, schedules, templates, workflows),
        *(webhooks, exports, fleet, events, health),
    ):
        app.include_router(part.router)
    app.include_router(events.streams)
    if platform.settings.dashboard:
        app.router.routes.extend(dashboard.routes())
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    platform: Platform = app.state.platform
    current_default_thread_limiter().total_tokens = 2 * platform.settings.pool_size + SPARE_THREADS
    readiness: Readiness = app.state.readiness
    hub: Hub = app.state.hub
    reader: Reader = app.state.reader
    readiness.start()
    reader.start(asyncio.get_running_loop())
    await run_in_threadpool(_warm_up, platform)
    yield {MOST: platform.settings.api_connections, LEAVING: hub.close}
    hub.close()
    await run_in_threadpool(reader.stop)
    await run_in_threadpool(readiness.stop)
    await run_in_threadpool(platform.close, LAST_WORDS)
    await run_in_threadpool(app.state.slow_reads.close)


def _slow_reads(platform: Platform) -> Database:
    limited = platform.settings.model_copy(update={"statement_timeout": platform.settings.read_timeout})
    return Database(platform.settings.database, limited, options=AS_ASKED)


def _warm_up(platform: Platform) -> None:
    """Open some connections, so that the first callers do not wait for them; without a database, start anyway."""
    platform.dispatcher  # noqa: B018 - it begins with its first use
    try:
        with ExitStack() as opened:
            for _ in range(min(WARM_CONNECTIONS, platform.settings.pool_size)):
                ping(opened.enter_context(platform.database.autocommit()))
    except problems.UNAVAILABLE as error:
        log.warning("started without a database", error=type(error).__name__)
