"""Whose request is worked on: as many as there are connections, and of slow reads a share for each who asks."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from api.problems import RETRY_AFTER, Code, Problem

# Seconds to wait for a turn. A request is short, and a database that hesitates (a checkpoint, a lock of somebody else's
# deployment) is back in a moment: who waited is served then. A slow read makes way sooner.
PATIENCE = 3.0
SLOW_PATIENCE = 1.0

Key = TypeVar("Key")


class Turns:
    """As many at a time as there are database connections; organizations that wait for one take turns.

    Whoever has many requests waits behind its own: another organization's next request comes after one of each.
    """

    def __init__(self, most: int, patience: float = PATIENCE) -> None:
        self._free = most
        self._patience = patience
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = (
            OrderedDict()
        )  # the next one's first; none is empty

    @asynccontextmanager
    async def turn(self, organization: str) -> AsyncIterator[None]:
        """Wait for a turn of the organization, and have it within. Raises the 503 problem."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(organization)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, organization: str) -> None:
        given = asyncio.get_running_loop().create_future()
        self._lines.setdefault(organization, deque()).append(given)
        try:
            async with asyncio.timeout(self._patience):
                await given
        except BaseException as error:
            if given.done() and not given.cancelled():  # it came in the same moment
                self._pass_on()
            if isinstance(error, TimeoutError):
                raise Problem(Code.OVERLOADED, "Try again in a moment.", headers=RETRY_AFTER) from None
            raise

    def _pass_on(self) -> None:
        """Give a turn that is over to who is next; those who wait no more have cancelled theirs."""
        while self._lines:
            organization, line = self._lines.popitem(last=False)
            given = line.popleft()
            if line:
                self._lines[organization] = line  # behind all others
            if not given.done():
                given.set_result(None)
                return
        self._free += 1


@dataclass
class _Share:
    left: asyncio.Semaphore
    users: int = 0


class Shares:
    """As many at a time as there are connections for slow reads, a fifth of them for any one organization.

    Half of an organization's are for any one of its users: somebody's searches do not keep a colleague waiting.
    """

    def __init__(self, most: int) -> None:
        self._turns = Turns(most, SLOW_PATIENCE)
        self._each = max(1, most // 5)
        self._own = max(1, self._each // 2)
        self._shares: dict[str, _Share] = {}  # of those who ask now
        self._users: dict[tuple[str, str], _Share] = {}

    @asynccontextmanager
    async def turn(self, organization: str, user: str) -> AsyncIterator[None]:
        """Wait for a turn of the organization and its user, and have it within. Raises the 429 or the 503 problem."""
        async with (
            _shared(self._users, (organization, user), self._own, "a user"),
            _shared(self._shares, organization, self._each, "an organization"),
            self._turns.turn(organization),
        ):
            yield


@asynccontextmanager
async def _shared(shares: dict[Key, _Share], key: Key, most: int, whose: str) -> AsyncIterator[None]:
    share = shares.setdefault(key, _Share(asyncio.Semaphore(most)))
    share.users += 1
    try:
        if not await _acquired(share.left, SLOW_PATIENCE):
            detail = f"{most} lists, searches and counts of {whose} are worked on at a time."
            raise Problem(Code.TOO_MANY_READS, detail, headers=RETRY_AFTER)
        try:
            yield
        finally:
            share.left.release()
    finally:
        share.users -= 1
        if not share.users:
            del shares[key]


async def _acquired(turns: asyncio.Semaphore, patience: float) -> bool:
    try:
        async with asyncio.timeout(patience):
            return await turns.acquire()
    except TimeoutError:
        return False
