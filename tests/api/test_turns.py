"""Turns: one organization's slow reads leave room for another's, and for every other request."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from api.problems import Code, Problem
from api.turns import PATIENCE, Shares, Turns
from tests.api.calling import Api, Caller


def test_an_organization_has_a_fifth_of_the_slow_reads() -> None:
    """Of ten turns two are one organization's; its third is refused in a second, another organization's is not."""

    async def ask() -> Code:
        shares = Shares(10)
        async with AsyncExitStack() as held:
            for user in ("ann", "bob"):
                await held.enter_async_context(shares.turn("acme", user))
            await held.enter_async_context(shares.turn("globex", "ann"))
            with pytest.raises(Problem) as refused:
                await held.enter_async_context(shares.turn("acme", "cid"))
        await held.enter_async_context(shares.turn("acme", "cid"))
        return refused.value.code

    assert asyncio.run(ask()) is Code.TOO_MANY_READS


def test_a_user_has_half_of_the_slow_reads_of_an_organization() -> None:
    """Of four turns of an organization two are one user's; the third is refused, and a colleague's is not."""

    async def ask() -> tuple[Code, str, int]:
        shares = Shares(20)
        async with AsyncExitStack() as held:
            for _ in range(2):
                await held.enter_async_context(shares.turn("acme", "ann"))
            with pytest.raises(Problem) as refused:
                await held.enter_async_context(shares.turn("acme", "ann"))
            await held.enter_async_context(shares.turn("acme", "bob"))
            await held.enter_async_context(shares.turn("globex", "ann"))
        return refused.value.code, str(refused.value.detail), len(shares._users)

    said = "2 lists, searches and counts of a user are worked on at a time."
    assert asyncio.run(ask()) == (Code.TOO_MANY_READS, said, 0)


def test_all_organizations_together_have_as_many_slow_reads_as_there_are_connections() -> None:
    """Of five turns each is another organization's; the sixth organization is asked to try again."""

    async def ask() -> Code:
        shares = Shares(5)
        async with AsyncExitStack() as held:
            for number in range(5):
                await held.enter_async_context(shares.turn(f"org-{number}", "ann"))
            with pytest.raises(Problem) as refused:
                await held.enter_async_context(shares.turn("org-5", "ann"))
        return refused.value.code

    assert asyncio.run(ask()) is Code.OVERLOADED


def test_a_turn_is_given_to_who_waits_for_it() -> None:
    """A request that waits has its turn after the one before it; of organizations nothing is kept afterwards."""

    async def ask() -> int:
        shares, order = Shares(1), []

        async def read(name: str) -> None:
            async with shares.turn("acme", "ann"):
                order.append(name)
                await asyncio.sleep(0.05)

        await asyncio.gather(*(read(name) for name in "abc"))
        assert order == ["a", "b", "c"]
        return len(shares._shares)

    assert asyncio.run(ask()) == 0


def test_a_short_request_waits_out_a_database_that_hesitates() -> None:
    """A request whose turn comes after two seconds is served: 503 is for a database that does not come back."""

    async def ask() -> float:
        turns, began = Turns(1), time.monotonic()

        async def hesitate() -> None:
            async with turns.turn("acme"):
                await asyncio.sleep(2)

        async def wait() -> None:
            async with turns.turn("acme"):
                pass

        await asyncio.gather(hesitate(), wait())
        return time.monotonic() - began

    assert 2 <= asyncio.run(ask()) < PATIENCE


def test_organizations_take_turns() -> None:
    """Behind a hundred requests of one organization another's is the next but one, and nobody's is left out."""

    async def ask() -> list[str]:
        turns, order = Turns(1), []

        async def request(organization: str) -> None:
            async with turns.turn(organization):
                order.append(organization)
                await asyncio.sleep(0)

        await asyncio.gather(*(request(name) for name in ["loud"] * 100 + ["quiet", "other", "quiet"]))
        assert not turns._lines
        return order

    order = asyncio.run(ask())
    assert order[:6] == ["loud", "loud", "quiet", "other", "loud", "quiet"]
    assert Counter(order) == {"loud": 100, "quiet": 2, "other": 1}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["stays", "leaves", "is late"])), max_size=30))
def test_a_turn_is_never_lost_nor_given_twice(requests: list[tuple[str, str]]) -> None:
    """Whoever waits no more, or is cancelled as its turn comes, leaves as many turns as there were."""

    async def ask() -> int:
        turns, at_once, most = Turns(2, 5), 0, 0

        async def request(organization: str) -> None:
            nonlocal at_once, most
            async with turns.turn(organization):
                at_once += 1
                most = max(most, at_once)
                try:
                    await asyncio.sleep(0)
                finally:
                    at_once -= 1

        tasks = [(asyncio.create_task(request(name)), does) for name, does in requests]
        await asyncio.sleep(0)
        for number, (task, does) in enumerate(tasks):
            if does == "leaves":
                task.cancel()
            elif does == "is late":
                asyncio.get_running_loop().call_later(0.0001 * number, task.cancel)
        await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        assert turns._free == 2
        assert not turns._lines
        return most

    assert asyncio.run(ask()) <= 2


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


def problem_of(response: httpx2.Response) -> tuple[int, str]:
    """The status and the code of a refusal, which says when to ask again."""
    assert int(response.headers["retry-after"]) > 0
    return response.status_code, response.json()["code"]
