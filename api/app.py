"""The application: routes, their common layer, and what lives as long as the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

import structlog
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import State
from starlette.middleware.cors import CORSMiddleware

from api import problems, reference
from api.addresses import Addresses, proxies
from api.auth import Verifier, verifier
from api.connections import ADDRESSES, LEAVING, MOST
from api.dashboard import app as dashboard
from api.denials import Denials, Watched
from api.envelope import Envelope
from api.live.hub import Hub
from api.live.reader import Reader
from api.metrics import Metrics
from api.oidc import Provider
from api.openapi import DescribedApi
from api.rates import Rates
from api.readiness import Readiness
from api.replica import Replica
from api.routes import (
    audit,
    bulk,
    changes,
    denied_tokens,
    doctor,
    errors,
    events,
    exports,
    files,
    fleet,
    health,
    job_types,
    jobs,
    limits,
    operations,
    organization,
    projects,
    schedules,
    templates,
    views,
    webhooks,
    workflows,
)
from api.turns import Shares, Turns
from tasks.app import app as tasks
from tasks.app import import_handlers
from tasks.platform import Platform
from tracking.db import Database, ping
from tracking.origins import Source
from tracking.settings import Settings

BULKS = 2  # requests with large bodies that are held at a time: each may take a hundred MiB when it is read
UPLOADS = 8  # files that arrive at a time
SPARE_THREADS = 20  # besides one for each database connection, of either pool: files
WARM_CONNECTIONS = 4
# A read must not take more than one of the server's processors. Nor is it planned without its values: what a search, or
# an organization, of average size would need takes a hundred times as long for a large one.
AS_ASKED = "-c max_parallel_workers_per_gather=0 -c plan_cache_mode=force_custom_plan"
MOST_STREAMS = 80  # percent of the connections of a process: the others are for requests that end
CORS_SENT = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "X-Request-Id",
)
CORS_SHOWN = (
    "Content-Disposition",
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
)
LAST_WORDS = 5.0  # seconds for messages that are still to go out

DESCRIPTION = """\
Create, watch, explain, cancel and retry jobs. A job that was answered with 202 is kept until it ends, whatever breaks.

Send `Authorization: Bearer <JWT>`. Times are UTC; every error is `application/problem+json` with a stable `code`.
Job ids are UUIDs. Somebody else's job is one that does not exist.
"""

# FastAPI's own spans, one for each request. Its log records have the texts of errors.
PROBES = ("/livez", "/readyz", "/healthz", "/metrics")
TELEMETRY: TelemetryConfig = {
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
    "exclude": lambda scope: scope["path"] in PROBES,
}

log = structlog.get_logger(__name__)


def create_app(
    platform: Platform | None = None, *, tokens: Verifier | None = None, source: Source = Source.API
) -> FastAPI:
    """The API of a platform; None: that of this process's app. Raises ConfigurationError for what cannot be served.

    `tokens` None: they are checked as the settings say. `source`: by which door the audit says that callers came.
    """
    platform = platform or tasks.platform
    import_handlers(platform.settings)
    app = DescribedApi(
        title="Celeriac",
        version=version("celeriac"),
        description=DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,  # it would fetch its viewer from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry=TELEMETRY,
    )
    app.state.platform = platform
    app.state.hub = Hub(max(1, platform.settings.api_connections * MOST_STREAMS // 100))
    app.state.denials = Denials(platform.settings, app.state.hub)
    app.state.verifier = tokens or Watched(verifier(platform.settings), app.state.denials)
    app.state.oidc = Provider(platform.settings) if platform.settings.oidc_issuer else None
    app.state.source = source
    app.state.replica = _replica(platform.settings)
    app.state.readiness = Readiness(platform, app.state.replica)
    app.state.turns = Turns(max(1, platform.settings.pool_size - 1))  # one connection is the dispatcher's
    app.state.rates = Rates(platform.settings if source is Source.API else _unlimited(platform.settings))
    app.state.addresses = Addresses(platform.settings.api_address_connections, proxies(platform.settings))
    app.state.bulks = Turns(BULKS)
    app.state.uploads = Turns(UPLOADS)
    app.state.shares = Shares(platform.settings.pool_size)
    app.state.slow_reads = _slow_reads(platform.settings, platform.settings.database)
    app.state.reader = Reader(platform.settings, app.state.hub)
    app.state.metrics = _metrics(platform, app.state)
    app.add_middleware(Envelope)
    if platform.settings.cors_origins:
        _let_in(app, platform.settings.cors_origins)
    problems.install(app)
    app.state.refused = problems.refused
    # As they are: FastAPI's include_router would make each of them again, at the first request.
    for part in (
        *(jobs, bulk, operations, changes, audit, projects, job_types, limits, organization, schedules, templates),
        *(errors, workflows, webhooks, files, exports, views, fleet, doctor, denied_tokens, events, health),
    ):
        app.router.routes.extend(part.router.routes)
    app.router.routes.extend(events.streams.routes)
    app.router.routes.extend(reference.routes())
    if platform.settings.dashboard:
        dashboard.install(app)
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
    app.state.denials.start()
    await run_in_threadpool(_warm_up, platform)
    yield {MOST: platform.settings.api_connections, ADDRESSES: app.state.addresses, LEAVING: hub.close}
    hub.close()
    await app.state.denials.stop()
    await run_in_threadpool(reader.stop)
    await run_in_threadpool(readiness.stop)
    await run_in_threadpool(platform.close, LAST_WORDS)
    await run_in_threadpool(platform.last_words, LAST_WORDS)
    await run_in_threadpool(app.state.slow_reads.close)
    await run_in_threadpool(app.state.metrics.close)
    if app.state.replica is not None:
        await run_in_threadpool(app.state.replica.close)


def _unlimited(settings: Settings) -> Settings:
    """For somebody at a terminal, whose requests are all that this process has."""
    return settings.model_copy(update={"api_rate": 0, "api_user_rate": 0})


def _let_in(app: FastAPI, origins: Sequence[str]) -> None:
    """Let the pages of these sites call the API, with a token; never with a cookie, which is the dashboard's."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=CORS_SENT,
        expose_headers=CORS_SHOWN,
        allow_credentials=False,
    )


def _slow_reads(settings: Settings, url: str, *, pool_size: int | None = None) -> Database:
    limited = settings.model_copy(update={"statement_timeout": settings.read_timeout})
    return Database(url, limited, pool_size=pool_size, options=AS_ASKED)


def _metrics(platform: Platform, state: State) -> Metrics:
    pools = {"main": platform.database, "slow_reads": state.slow_reads}
    if state.replica is not None:
        pools["replica"] = state.replica.database
    return Metrics(
        platform, _slow_reads(platform.settings, platform.settings.database, pool_size=1), state.reader, pools
    )


def _replica(settings: Settings) -> Replica | None:
    url = settings.replica
    return Replica(url, settings, _slow_reads(settings, url)) if url is not None else None


def _warm_up(platform: Platform) -> None:
    """Open some connections, so that the first callers do not wait for them; without a database, start anyway."""
    platform.dispatcher  # noqa: B018 - it begins with its first use
    try:
        with ExitStack() as opened:
            for _ in range(min(WARM_CONNECTIONS, platform.settings.pool_size)):
                ping(opened.enter_context(platform.database.autocommit()))
    except problems.UNAVAILABLE as error:
        log.warning("started without a database", error=type(error).__name__)
