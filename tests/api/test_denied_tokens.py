"""Tokens that operators deny: in seconds nothing that they gave is left, on any process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx2
import pytest
from pydantic import SecretStr
from websockets.exceptions import ConnectionClosed

from api.auth import Principal, Proof
from api.denials import OLDEST, Denials, Rules, life_of
from api.live.hub import Hub, Interest
from api.problems import Problem
from api.visitors import principal_of
from tests.api.calling import PLAIN, Api, Caller, problem
from tests.api.dashboard.conftest import link
from tests.api.listening import conversing, listening, received
from tests.live import eventually
from tracking import denied_tokens, sessions, tickets
from tracking.denied_tokens import Denial, NewDenial
from tracking.errors import TooManyDenials
from tracking.origins import By
from tracking.reads.tail import Narrowed
from tracking.settings import Settings, settings
from tracking.tickets import Rights

PATH = "/v1/denied-tokens"
SAME = {"Sec-Fetch-Site": "same-origin"}
SOON = OLDEST + 1  # seconds
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def put(operator: Caller, **said: object) -> dict[str, str]:
    """The denial that an operator has made."""
    response = operator.put(PATH, {"organization": operator.organization, **said})
    assert response.status_code == 200, response.text
    return dict(response.json())


def with_token(caller: Caller, **claims: object) -> dict[str, str]:
    """The header with a token of the caller's."""
    token = caller.api.token(sub=caller.user, org=caller.organization, **claims)
    return {"Authorization": f"Bearer {token}"}


def status(api: Api, headers: dict[str, str]) -> int:
    """What a request with this token is answered with."""
    return api.client.get("/v1/jobs", headers=headers).status_code


@pytest.fixture
def operator(caller: Caller) -> Caller:
    """An operator of the caller's organization."""
    return caller.but(user="operator")


def denial(**said: object) -> Denial:
    """A denial of `u1`, or of what is said."""
    given = {"organization_id": None, "token_id": None, "user_id": "u1", "issued_before": None, **said}
    return Denial(**given, id=uuid4(), expires_at=None, reason=None, denied_by="o", denied_at=NOW)  # type: ignore[arg-type]


def somebody(**proof: object) -> Principal:
    """Somebody of acme with this proof."""
    return Principal("acme", "u1", frozenset(), proof=Proof(**proof))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "shown", "is_denied"),
    [
        ({}, {}, True),
        ({"organization_id": "acme"}, {}, True),
        ({"organization_id": "globex"}, {}, False),
        ({"user_id": "u2"}, {}, False),
        ({"issued_before": NOW}, {"issued": NOW.timestamp() - 1}, True),
        ({"issued_before": NOW}, {"issued": NOW.timestamp()}, False),
        ({"user_id": None, "token_id": "t"}, {"token_id": "t"}, True),
        ({"user_id": None, "token_id": "t", "organization_id": "globex"}, {"token_id": "t"}, False),
        ({"user_id": None, "token_id": "t"}, {"token_id": "s"}, False),
        ({"user_id": None, "token_id": "t"}, {}, False),
    ],
)
def test_a_denial_is_of_these_tokens_alone(said: dict[str, object], shown: dict[str, object], is_denied: bool) -> None:  # noqa: FBT001 - a parameter
    """A denial meets its user's tokens, those that are older than its time, or one token, in its organization."""
    assert Rules([denial(), denial(user_id="u3")]).deny(somebody())
    assert Rules([denial(**said)]).deny(somebody(**shown)) is is_denied


def test_one_token_is_denied(api: Api, caller: Caller, operator: Caller) -> None:
    """A token that is denied by its `jti` gets 401 in seconds, another one of the same user does not."""
    jti = uuid4().hex
    leaked, kept = with_token(caller, jti=jti), with_token(caller, jti="kept")
    assert status(api, leaked) == 200
    made = put(operator, token=jti, reason="on a screenshot")
    eventually(lambda: status(api, leaked) == 401, within=SOON)
    body = problem(api.client.get("/v1/jobs", headers=leaked), 401, "token_denied")
    assert "Sign in again" in body["detail"]
    assert status(api, kept) == 200
    assert made in operator.get(PATH).json()["denials"]
    assert operator.delete(f"{PATH}/{made['id']}").json() == made
    eventually(lambda: status(api, leaked) == 200, within=SOON)
    problem(operator.delete(f"{PATH}/{made['id']}"), 404, "denial_not_found")


def test_older_tokens_of_a_user_are_denied(api: Api, caller: Caller, operator: Caller) -> None:
    """After a denial of what was issued before now, a new token of the user is taken, and no older one."""
    now = int(time.time())
    old, new = with_token(caller, iat=now - 10), with_token(caller, iat=now)
    put(operator, user=caller.user, issuedBefore=datetime.fromtimestamp(now, UTC).isoformat())
    eventually(lambda: status(api, old) == 401, within=SOON)
    assert status(api, new) == 200


def test_what_a_token_has_opened_ends_with_it(api: Api, caller: Caller, operator: Caller) -> None:
    """Streams, WebSockets, tickets and sessions that were got with a token end when it is denied."""
    api.client.cookies.clear()
    token = with_token(caller)
    ticket = api.client.post("/v1/events/ticket", headers=token).json()["ticket"]
    form = {"token": token["Authorization"]}
    with httpx2.Client(verify=PLAIN, base_url=api.url, headers=SAME) as browser:
        assert browser.post("/sign-in", data=form).status_code == 303
        assert browser.get("/").status_code == 200
        with listening(caller) as stream, conversing(caller) as socket:
            assert received(socket).name == "ready"
            put(operator, user=caller.user)
            assert stream.next() is None
            with pytest.raises(ConnectionClosed) as closed:
                received(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401
        assert browser.get("/", headers={"Accept": "text/html"}).status_code == 303
        assert browser.post("/sign-in", data=form).status_code == 401
    problem(api.client.get("/v1/events", params={"ticket": ticket}), 401, "token_denied")


def test_a_sign_out_ends_the_streams_of_its_session(api: Api, caller: Caller) -> None:
    """Whoever signs out has no live stream left, and the user's other streams go on."""
    with httpx2.Client(verify=PLAIN, base_url=api.url, headers=SAME) as browser:
        browser.post("/sign-in", data={"ticket": link(caller).partition("ticket=")[2]})
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
        with listening(caller) as kept, opened(api, cookie) as lines:
            assert browser.post("/sign-out").status_code == 303
            assert ends(lines)
            job = caller.job()
            assert [told.data["jobId"] for told in kept.take(1)] == [str(job.id)]


def test_another_process_hears_of_denials_and_sign_outs(api: Api, caller: Caller, api_database_url: str) -> None:
    """A process that knows only the database ends the streams of a session that is over, and of a token that is denied.

    Its first request waits until it knows; and it asks again by itself.
    """
    settings = Settings(database_url=SecretStr(api_database_url))
    rights = Rights(caller.organization, caller.user, frozenset(), None)
    with api.database.autocommit() as connection:
        secrets = [sessions.begin(connection, rights) for _ in range(2)]
    over, lasting = (principal_of(rights, tickets.digest(secret)) for secret in secrets)
    leaked = replace(lasting, proof=Proof("leaked"))

    async def scenario() -> list[bool]:
        hub = Hub(10, position=0)
        denials = Denials(settings, hub)
        streams = [hub.join(Interest(each.scope, Narrowed()), each) for each in (over, lasting, leaked)]
        assert await denials.require(leaked) == leaked
        with api.database.autocommit() as connection:
            sessions.end(connection, secrets[0])
            new = NewDenial(caller.organization, "leaked", None, None, uuid4(), None)
            denied_tokens.put(connection, new, timedelta(minutes=1), By("o"))
        denials.start()
        await asyncio.gather(streams[0].take(SOON), streams[2].take(SOON))
        with pytest.raises(Problem):
            await denials.require(leaked)
        await denials.stop()
        return [stream.is_over for stream in streams]

    assert asyncio.run(scenario()) == [True, False, True]


@contextmanager
def opened(api: Api, cookie: dict[str, str]) -> Iterator[Iterator[str]]:
    """The lines of a stream of a session, which has begun."""
    with (
        httpx2.Client(verify=PLAIN, base_url=api.url, timeout=SOON) as client,
        client.stream("GET", "/v1/events", headers=cookie) as response,
    ):
        assert response.status_code == 200
        lines = response.iter_lines()
        next(lines)
        yield lines


def ends(lines: Iterator[str]) -> bool:
    """Whether a stream ends before its client loses patience, and tells of no job."""
    return not any(line.startswith("data:") for line in lines)


def test_a_denial_lasts_as_long_as_what_it_denies(api: Api) -> None:
    """One of a token, or of a user's older ones, is gone when they have expired; one of a user stays."""
    life, by = life_of(Settings()), By("o")
    with api.database.begin() as connection:
        before = datetime.now(UTC) - life + timedelta(seconds=60)
        new = [
            NewDenial("elsewhere", "t", None, None, uuid4(), None),
            NewDenial("elsewhere", None, uuid4().hex, before, uuid4(), None),
            NewDenial("elsewhere", None, uuid4().hex, None, uuid4(), None),
        ]
        token, older, user = [denied_tokens.put(connection, each, life, by) for each in new]
        assert token.expires_at is not None
        assert life - timedelta(minutes=1) < token.expires_at - token.denied_at <= life
        assert older.expires_at == before + life
        assert user.expires_at is None
        connection.exec_driver_sql("UPDATE denied_tokens SET expires_at = now() WHERE id = %s", (older.id,))
        held = {each.id for each in denied_tokens.listed_denials(connection)}
        assert held >= {token.id, user.id}
        assert older.id not in held
        again = denied_tokens.put(connection, NewDenial("elsewhere", "t", None, None, uuid4(), "again"), life, by)
        assert (again.id, again.reason) == (token.id, "again")
        assert not connection.exec_driver_sql("SELECT FROM denied_tokens WHERE id = %s", (older.id,)).all()
        connection.rollback()


def test_only_so_many_are_kept(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more tokens are denied one by one than each process can hold."""
    monkeypatch.setattr(denied_tokens, "MOST", 1)
    new = [NewDenial("elsewhere", uuid4().hex, None, None, uuid4(), None) for _ in range(2)]
    with api.database.begin() as connection:
        for each in new[: 1 - len(denied_tokens.listed_denials(connection))]:
            denied_tokens.put(connection, each, timedelta(hours=1), By("o"))
        with pytest.raises(TooManyDenials):
            denied_tokens.put(connection, new[1], timedelta(hours=1), By("o"))
        connection.rollback()


@pytest.mark.parametrize(
    "said",
    [{}, {"token": "t", "user": "u"}, {"token": "t", "issuedBefore": "2026-01-01T00:00:00Z"}, {"user": "a\x00"}],
    ids=["nothing", "both", "a time of one", "no text"],
)
def test_what_says_no_tokens_is_refused(operator: Caller, said: dict[str, str]) -> None:
    """A denial is of one token or of a user, and only the latter has a time."""
    problem(operator.put(PATH, said), 422, "invalid_request")


def test_a_look_that_is_under_way_ends_before_its_connection_is_closed(database_url: str) -> None:
    """A process that stops at once, such as a command, leaves no thread that would open a connection after it."""
    configured = settings().model_copy(update={"database_url": SecretStr(database_url)})
    denials = Denials(configured, Hub(1))

    async def begin_and_stop() -> None:
        denials.start()
        await asyncio.sleep(0.01)
        await denials.stop()

    asyncio.run(begin_and_stop())
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("denials")]
