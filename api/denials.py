"""Which tokens are taken no more, as this process last heard; what was got with one of them ends too."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import structlog
from starlette.concurrency import run_in_threadpool

from api.auth import LEEWAY, Principal, Verifier, unauthorized
from api.live.hub import Hub
from api.problems import Code
from tracking import denied_tokens, sessions
from tracking.db import Database, SQLAlchemyError
from tracking.denied_tokens import Denial
from tracking.settings import Settings

INTERVAL = 1.0  # seconds between two looks
OLDEST = 4.0  # seconds after which what was heard does not count: then the next request asks, and waits for it

log = structlog.get_logger(__name__)


def life_of(settings: Settings) -> timedelta:
    """The longest that what a token gives may last after it was made: itself, and a session."""
    return max(timedelta(seconds=settings.token_life), sessions.LONGEST) + timedelta(seconds=LEEWAY)


class Rules:
    """Whom denials are about."""

    def __init__(self, denials: Sequence[Denial]) -> None:
        self._tokens: dict[str | None, list[Denial]] = defaultdict(list)
        self._users: dict[str | None, list[Denial]] = defaultdict(list)
        for denial in denials:
            known, key = (self._tokens, denial.token_id) if denial.token_id else (self._users, denial.user_id)
            known[key].append(denial)

    def deny(self, principal: Principal) -> bool:
        """Whether what somebody has shown is taken no more."""
        found = [*self._users.get(principal.user, ())]
        if principal.proof.token_id is not None:
            found += self._tokens.get(principal.proof.token_id, ())
        return any(
            each.organization_id in (None, principal.organization)
            and (each.issued_before is None or principal.proof.issued < each.issued_before.timestamp())
            for each in found
        )


class Denials:
    """Those of a platform, read in the background over a connection of its own; and which sessions are over."""

    def __init__(self, settings: Settings, hub: Hub) -> None:
        self._database = Database(settings.database, settings, pool_size=1)
        self._hub = hub
        self._rules = Rules(())
        self._at = float("-inf")
        self._thread = ThreadPoolExecutor(1, "denials")
        self._looking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on, in this event loop."""
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        # A look that is under way has its time limit; its connection would outlive a pool that is closed before.
        await run_in_threadpool(self._thread.shutdown, wait=True, cancel_futures=True)
        self._database.close()

    async def require(self, principal: Principal) -> Principal:
        """Whoever it is, unless what they have shown is denied: then raises the 401 problem.

        Raises DBAPIError when that cannot be known now.
        """
        if time.monotonic() - self._at > OLDEST:
            await asyncio.shield(self._look())
        if self._rules.deny(principal):
            raise unauthorized(Code.TOKEN_DENIED, "Somebody has ended what it gave. Sign in again, or ask an operator.")
        return principal

    async def _watch(self) -> None:
        failed = False
        while True:
            try:
                await asyncio.shield(self._look())
                failed = False
            except SQLAlchemyError as error:
                if not failed:
                    log.warning("denials.unreadable", error=type(getattr(error, "orig", error)).__name__)
                failed = True
            await asyncio.sleep(INTERVAL)

    def _look(self) -> asyncio.Task[None]:
        """The look that is under way, begun if there is none."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._renew())
        return self._looking

    async def _renew(self) -> None:
        began, open_sessions = time.monotonic(), self._hub.sessions
        found, alive = await asyncio.get_running_loop().run_in_executor(self._thread, self._read, open_sessions)
        self._rules, self._at = Rules(found), began
        over = open_sessions - alive
        self._hub.end_those(lambda principal: principal.proof.session in over or self._rules.deny(principal))

    def _read(self, open_sessions: Collection[bytes]) -> tuple[Sequence[Denial], set[bytes]]:
        with self._database.autocommit() as connection:
            alive = sessions.alive(connection, open_sessions) if open_sessions else set()
            return denied_tokens.listed_denials(connection), alive


class Watched:
    """What checks tokens, without those that are denied."""

    def __init__(self, verifier: Verifier, denials: Denials) -> None:
        self._verifier = verifier
        self._denials = denials

    async def principal(self, token: str) -> Principal:
        """Whom the token names. Raises Problem."""
        return await self._denials.require(await self._verifier.principal(token))
