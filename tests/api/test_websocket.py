"""Live events over a WebSocket, and tickets."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.api.calling import Api, Caller, problem
from tests.api.listening import Told, conversing, listening, received
from tracking import tickets
from tracking.tickets import Purpose, Rights


def refused(caller: Caller, query: str = "", **headers: str) -> tuple[int, str]:
    """Status and body of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as answer, conversing(caller, query, **headers):
        pass
    return answer.value.response.status_code, answer.value.response.body.decode()


def test_the_same_events_come_over_a_websocket(caller: Caller) -> None:
    """A WebSocket has each event as one message with its id, name and data; a stream has the same ones."""
    with conversing(caller) as socket, listening(caller) as listener:
        ready = received(socket)
        assert (ready.name, ready.data) == ("ready", {})
        caller.job("succeeded")
        assert [received(socket) for _ in range(3)] == listener.take(3)


def test_a_websocket_resumes_and_is_narrowed(caller: Caller) -> None:
    """A WebSocket takes the id of the last event and what it is narrowed to in its address."""
    caller.job()
    with conversing(caller) as socket:
        last = received(socket).id
    wanted = caller.job(job_type="guarded")
    caller.job()
    with conversing(caller, f"?lastEventId={last}&type=guarded") as socket:
        told = {message.name: message.data for message in (received(socket), received(socket))}
        assert told["job:created"]["jobId"] == str(wanted.id)
        assert "ready" in told, "behind what this process knew when the client came"
    with conversing(caller, f"?lastEventId={2**50}") as socket:
        assert received(socket) == Told(None, "resync", {})


def test_a_websocket_takes_the_header_of_a_stream(caller: Caller) -> None:
    """A client that is no browser resumes by Last-Event-ID as well, which counts before the address."""
    with conversing(caller) as socket:
        last = received(socket).id
    job = caller.job()
    for header in ({"Last-Event-ID": str(last)}, {"Last-Event-ID": "not one of ours"}):
        with conversing(caller, f"?lastEventId={2**40}", **header, **caller.headers) as socket:
            told = [received(socket) for _ in range(2)]
        if header["Last-Event-ID"] == str(last):
            assert str(job.id) in [message.data.get("jobId") for message in told]
        else:
            assert told[0] == Told(None, "resync", {})


def test_a_websocket_of_a_foreign_page_is_refused(caller: Caller) -> None:
    """A WebSocket from a page of another site is refused, whoever it is; one from a page of this server is not."""
    for origin in ("https://evil.example", "null", "http://[::1", f"{caller.api.url}.evil.example"):
        status, body = refused(caller, Origin=origin, **caller.headers)
        assert (status, "foreign_origin" in body) == (403, True)
    with conversing(caller, Origin=caller.api.url, **caller.headers) as socket:
        assert received(socket).name == "ready"


def test_what_is_refused_is_a_problem(api: Api, caller: Caller) -> None:
    """A WebSocket without a token, without the permission, with a wrong filter or of no job is refused as a problem."""
    assert "token_missing" in refused(caller, Origin=api.url)[1]
    assert refused(caller.but(permissions=()))[0] == 403
    assert "invalid_request" in refused(caller, "?jobId=x")[1]
    assert "invalid_request" in refused(caller, "?page=1")[1]
    assert "invalid_request" in refused(caller, "?type=open&type=guarded")[1]
    assert "job_not_found" in refused(caller, f"?jobId={api.caller().job().id}")[1]


def test_a_websocket_ends_when_its_token_does(api: Api, caller: Caller) -> None:
    """A WebSocket is closed when the token expires with which it was opened, and says why."""
    token = api.token(sub=caller.user, org=caller.organization, exp=int(time.time()) + 2)
    with conversing(caller, Authorization=f"Bearer {token}") as socket:
        assert received(socket).name == "ready"
        with pytest.raises(ConnectionClosed) as closed:
            received(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


def ticket(caller: Caller) -> str:
    response = caller.post("/v1/events/ticket")
    assert response.status_code == 201
    return str(response.json()["ticket"])


def test_a_ticket_opens_one_stream(api: Api, caller: Caller) -> None:
    """A ticket opens one stream or WebSocket with the caller's rights, and no second one."""
    for_stream, for_socket = ticket(caller), ticket(caller)
    with listening(caller, ticket=for_stream) as listener, conversing(caller, f"?ticket={for_socket}") as socket:
        api.caller().job()
        job = caller.job()
        assert [told.data["jobId"] for told in listener.take(1)] == [str(job.id)]
        assert received(socket).name == "ready"
        assert received(socket).data["jobId"] == str(job.id)
    problem(api.client.get("/v1/events", params={"ticket": for_stream}), 401, "ticket_invalid")
    assert "ticket_invalid" in refused(caller, f"?ticket={for_socket}")[1]
    problem(api.client.get("/v1/events", params={"ticket": "made up"}), 401, "ticket_invalid")


def test_a_ticket_is_for_streams_alone(api: Api, caller: Caller) -> None:
    """A ticket opens nothing but streams, and a ticket for something else opens none."""
    problem(api.client.get("/v1/jobs", params={"ticket": ticket(caller)}), 401, "token_missing")
    rights = Rights(caller.organization, caller.user, frozenset({"jobs.view_jobs"}), None)
    with api.database.autocommit() as connection:
        other = tickets.issue(connection, Purpose.SIGN_IN, rights, timedelta(seconds=30))
    problem(api.client.get("/v1/events", params={"ticket": other.secret}), 401, "ticket_invalid")


def test_a_ticket_is_over_after_its_time_and_is_forgotten(api: Api) -> None:
    """A ticket that was not used in time opens nothing, and is removed with the next one that is made."""
    rights = Rights("acme", "u1", frozenset(), None)
    with api.database.autocommit() as connection:
        late = tickets.issue(connection, Purpose.SIGN_IN, rights, timedelta(seconds=-1))
        assert tickets.spend(connection, Purpose.SIGN_IN, late.secret) is None
        good = tickets.issue(connection, Purpose.SIGN_IN, rights, timedelta(seconds=30))
        assert late.secret != good.secret
        kept = connection.exec_driver_sql("SELECT digest FROM tickets").scalars().all()
        assert tickets.digest(late.secret) not in [bytes(each) for each in kept]
        assert tickets.spend(connection, Purpose.SIGN_IN, good.secret) == rights
        assert tickets.spend(connection, Purpose.SIGN_IN, good.secret) is None
