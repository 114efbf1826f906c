"""Turns: one organization's slow reads leave room for another's, and for every other request."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import httpx
import pytest
from sqlalchemy import text

from api.problems import Code, Problem
from api.turns import Shares
from tests.api.calling import Api, Caller


def test_an_organization_has_a_fifth_of_the_slow_reads() -> None:
    """Of ten turns two are one organization's; its third is refused in a second, another organization's is not."""

    async def ask() -> Code:
        shares = Shares(10)
        async with AsyncExitStack() as held:
            for _ in range(2):
                await held.enter_async_context(shares.turn("acme"))
            await held.enter_async_context(shares.turn("globex"))
            with pytest.raises(Problem) as refused:
                await held.enter_async_context(shares.turn("acme"))
        await held.enter_async_context(shares.turn("acme"))
        return refused.value.code

    assert asyncio.run(ask()) is Code.TOO_MANY_READS


def test_all_organizations_together_have_as_many_slow_reads_as_there_are_connections() -> None:
    """Of five turns each is another organization's; the sixth organization is asked to try again."""

    async def ask() -> Code:
        shares = Shares(5)
        async with AsyncExitStack() as held:
            for number in range(5):
                await held.enter_async_context(shares.turn(f"org-{number}"))
            with pytest.raises(Problem) as refused:
                await held.enter_async_context(shares.turn("org-5"))
        return refused.value.code

    assert asyncio.run(ask()) is Code.OVERLOADED


def test_a_turn_is_given_to_who_waits_for_it() -> None:
    """A request that waits has its turn after the one before it; of organizations nothing is kept afterwards."""

    async def ask() -> int:
        shares, order = Shares(1), []

        async def read(name: str) -> None:
            async with shares.turn("acme"):
                order.append(name)
                await asyncio.sleep(0.05)

        await asyncio.gather(*(read(name) for name in "abc"))
        assert order == ["a", "b", "c"]
        return len(shares._shares)

    assert asyncio.run(ask()) == 0


def test_slow_reads_of_one_organization_cost_another_nothing(api: Api, caller: Caller) -> None:
    """While twelve of one's explanations wait for the database, another's status and list are answered at once."""
    path, job = f"/v1/jobs/{caller.job().id}", caller.job()
    neighbour = api.caller()
    theirs = neighbour.job()
    with api.database.begin() as connection, ThreadPoolExecutor(12) as threads:
        connection.execute(text("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE"))  # an explanation reads them
        explained = [threads.submit(caller.get, f"{path}/explain") for _ in range(12)]
        time.sleep(0.3)
        began = time.monotonic()
        answers = [
            neighbour.get(f"/v1/jobs/{theirs.id}/status"),
            neighbour.get("/v1/jobs"),
            caller.get(f"{path}/status"),
        ]
        took = time.monotonic() - began
        refused = [problem_of(each.result()) for each in explained]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert took < 0.5
    assert set(refused) == {(503, "query_too_slow"), (429, "too_many_reads")}
    assert caller.get(f"/v1/jobs/{job.id}/explain").status_code == 200


def problem_of(response: httpx.Response) -> tuple[int, str]:
    """The status and the code of a refusal, which says when to ask again."""
    assert int(response.headers["retry-after"]) > 0
    return response.status_code, response.json()["code"]
