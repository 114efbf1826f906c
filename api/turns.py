"""Whose request is worked on: no more than there are connections, and of slow reads a share for each organization."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.problems import RETRY_AFTER, Code, Problem

PATIENCE = 1  # second to wait for a turn


class Turns:
    """As many at a time as there are database connections."""

    def __init__(self, most: int) -> None:
        self._left = asyncio.Semaphore(most)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it within. Raises the 503 problem."""
        if not await _acquired(self._left):
            raise Problem(Code.OVERLOADED, "Try again in a moment.", headers=RETRY_AFTER)
        try:
            yield
        finally:
            self._left.release()


@dataclass
class _Share:
    left: asyncio.Semaphore
    users: int = 0


class Shares:
    """As many at a time as there are connections for slow reads, and a fifth of them for any one organization."""

    def __init__(self, most: int) -> None:
        self._turns = Turns(most)
        self._each = max(1, most // 5)
        self._shares: dict[str, _Share] = {}  # of those who ask now

    @asynccontextmanager
    async def turn(self, organization: str) -> AsyncIterator[None]:
        """Wait for a turn of the organization, and have it within. Raises the 429 or the 503 problem."""
        share = self._shares.setdefault(organization, _Share(asyncio.Semaphore(self._each)))
        share.users += 1
        try:
            if not await _acquired(share.left):
                detail = f"{self._each} lists, searches and counts of an organization are worked on at a time."
                raise Problem(Code.TOO_MANY_READS, detail, headers=RETRY_AFTER)
            try:
                async with self._turns.turn():
                    yield
            finally:
                share.left.release()
        finally:
            share.users -= 1
            if not share.users:
                del self._shares[organization]


async def _acquired(turns: asyncio.Semaphore) -> bool:
    try:
        async with asyncio.timeout(PATIENCE):
            return await turns.acquire()
    except TimeoutError:
        return False
