"""The application: routes, their common layer, and what lives as long as the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from importlib.metadata import version

import structlog
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from api import problems
from api.auth import verifier
from api.envelope import Envelope
from api.openapi import DescribedApi, operation_id
from api.readiness import Readiness
from api.routes import exports, health, job_types, jobs, organization, projects
from tasks.app import import_handlers
from tasks.broker.dispatcher import dispatcher
from tracking.db import database, ping
from tracking.settings import settings

SPARE_THREADS = 20  # besides one for each database connection: files
WARM_CONNECTIONS = 4
LAST_WORDS = 5.0  # seconds for messages that are still to go out

DESCRIPTION = """\
Create, watch, explain, cancel and retry jobs. A job that was answered with 202 is kept until it ends, whatever breaks.

Send `Authorization: Bearer <JWT>`. Times are UTC; every error is `application/problem+json` with a stable `code`.
Job ids are UUIDs. Somebody else's job is one that does not exist.
"""

log = structlog.get_logger(__name__)


def create_app() -> FastAPI:
    """The API under the settings of this process. Raises ConfigurationError for what cannot be served."""
    import_handlers()
    app = DescribedApi(
        title="Celeriac",
        version=version("celeriac"),
        description=DESCRIPTION,
        lifespan=_lifespan,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
    )
    app.state.verifier = verifier(settings())
    app.state.readiness = Readiness(settings())
    app.state.turns = asyncio.Semaphore(settings().pool_size)
    app.add_middleware(Envelope)
    problems.install(app)
    for part in (jobs, projects, job_types, organization, exports, health):
        app.include_router(part.router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    current_default_thread_limiter().total_tokens = settings().pool_size + SPARE_THREADS
    readiness: Readiness = app.state.readiness
    readiness.start()
    await run_in_threadpool(_warm_up)
    yield
    await run_in_threadpool(readiness.stop)
    await run_in_threadpool(_shut_down)


def _warm_up() -> None:
    """Open some connections, so that the first callers do not wait for them; without a database, start anyway."""
    dispatcher()
    try:
        with ExitStack() as opened:
            for _ in range(min(WARM_CONNECTIONS, settings().pool_size)):
                ping(opened.enter_context(database().autocommit()))
    except problems.UNAVAILABLE as error:
        log.warning("started without a database", error=type(error).__name__)


def _shut_down() -> None:
    dispatcher().close(LAST_WORDS)
    database().close()
