"""Clients that keep the server waiting lose their connection in time, and nobody else is kept out by them."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from api import connections
from api.addresses import Addresses, Proxies
from tests.api.calling import PLAIN, Api, problem
from tests.api.conftest import serving
from tests.live import eventually

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
COMPLETE = HEAD + b"\r\n"
LARGE = 8 * 1024 * 1024  # bytes: more than the buffers of both kernels
SAID = "x" * 1024  # one message of a WebSocket
UPGRADE = f"{HEAD.decode()}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
HANDSHAKE = f"{UPGRADE}Sec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()
PATIENCE = 0.5  # seconds, of each kind, in these tests
LATE = 5 * PATIENCE


async def converse(receive: Receive, send: Send, codes: Any) -> None:
    """Say more than anybody reads at once; `codes` gets the one with which that ends."""
    await receive()
    await send({"type": "websocket.accept"})
    with suppress(OSError):
        for _ in range(LARGE // len(SAID)):
            await send({"type": "websocket.send", "text": SAID})
    codes.append((await receive())["code"])


async def application(scope: Scope, receive: Receive, send: Send, *, state: Mapping[str, object]) -> None:
    """Answers in the way that the path says; `state` is what the server has of it."""
    if scope["type"] == "lifespan":
        scope["state"].update(state)
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
    if scope["type"] == "websocket":
        await converse(receive, send, state["codes"])
    if scope["type"] != "http":
        return
    full = "yes" if getattr(Request(scope).state, connections.FULL, False) else "no"
    if scope["path"] == "/slow":
        await asyncio.sleep(LATE)
    content = b"x" * LARGE if scope["path"] == "/large" else b"x"
    await PlainTextResponse(content, headers={"Full": full})(scope, receive, send)


@pytest.fixture
def codes() -> list[int]:
    """With which close codes WebSockets of the server have ended."""
    return []


@pytest.fixture
def port(codes: list[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server of such connections, at most five of them, in a thread."""
    monkeypatch.setattr(connections, "HEAD_PATIENCE", PATIENCE)
    monkeypatch.setattr(connections, "READ_PATIENCE", PATIENCE)
    with running({connections.MOST: 5, "codes": codes}) as found:
        yield found


@contextmanager
def running(state: Mapping[str, object]) -> Iterator[int]:
    """The port of a server of such connections, in a thread."""
    configuration = uvicorn.Config(
        partial(application, state=state),
        interface="asgi3",
        http=connections.Connection,
        ws=connections.Socket,
        ws_ping_interval=4 * PATIENCE,
        ws_ping_timeout=PATIENCE,
        lifespan="on",
        log_config=None,
        timeout_keep_alive=1,
    )
    server = uvicorn.Server(configuration)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        eventually(lambda: server.started, what="start of the server")
        yield listener.getsockname()[1]
        server.should_exit = server.force_exit = True
        thread.join(10)


@contextmanager
def connected(port: int, data: bytes = b"") -> Iterator[socket.socket]:
    """A connection on which this was sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(data)
        yield client


def seconds_until_closed(client: socket.socket, each: Callable[[], object] = lambda: None) -> float:
    """How long the server keeps it; `each` is done again and again meanwhile."""
    began = time.monotonic()
    client.settimeout(PATIENCE / 5)
    while time.monotonic() - began < 10:
        try:
            each()
            if not client.recv(65536):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


def answers(client: socket.socket) -> list[bytes]:
    """What the server says until it closes the connection, without the word HTTP before each answer."""
    said = b""
    with suppress(ConnectionResetError):  # of what came after the end
        while part := client.recv(65536):
            said += part
    return said.split(b"HTTP/1.1 ")[1:]


def is_refused(client: socket.socket) -> bool:
    """Whether the server takes nothing more of this client."""
    try:
        client.sendall(b"x")
    except OSError:
        return True
    return False


def is_full(port: int) -> bool:
    """Whether a new connection is told that there are too many."""
    with connected(port, HEAD + b"Connection: close\r\n\r\n") as client:
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return b"full: yes" in answer


@pytest.mark.parametrize(
    "data",
    [b"", b"G", b"GET / HTTP", HEAD, HEAD + b"X-A: b", b"\r\n", HEAD + b"Content-Length: 5\r\n", COMPLETE + HEAD],
    ids=["nothing", "a letter", "half a line", "half a head", "half a header", "an empty line", "a length", "another"],
)
def test_a_head_that_is_never_complete_ends_the_connection(port: int, data: bytes) -> None:
    """A connection whose request head is never complete is closed, however much of the head came."""
    with connected(port, data) as client:
        assert PATIENCE / 2 < seconds_until_closed(client) < LATE


def test_a_head_that_comes_byte_by_byte_ends_the_connection(port: int) -> None:
    """A head that comes byte by byte gets no new deadline, in the first request or in a later one."""
    for first in (b"", COMPLETE):
        with connected(port, first + HEAD + b"X-Long: ") as client:
            assert seconds_until_closed(client, lambda: client.sendall(b"a")) < LATE


def test_a_head_without_end_ends_the_connection(port: int) -> None:
    """A head of more than 64 KiB ends its connection."""
    with connected(port, HEAD) as client:
        began = time.monotonic()
        assert seconds_until_closed(client, lambda: client.sendall(b"X-A: " + b"b" * 32_000 + b"\r\n")) < LATE
        assert time.monotonic() - began < PATIENCE


FIELDS = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 20) for number in range(2500))  # 70 KB
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"X-A: " + b"a" * 70_000,
        HEAD + FIELDS[:-2],
        b"GET /" + b"a" * 40_000 + HEAD[5:] + FIELDS[:30_000] + b"y",
        CHUNKED + FIELDS[:-2],
    ],
    ids=["one field", "many fields", "path and fields", "trailers"],
)
def test_a_head_is_not_too_long_in_one_piece(port: int, data: bytes) -> None:
    """A head of more than 64 KiB is refused too when it comes at once, and trailers after a body count as one."""
    with connected(port, data + b"\r\n\r\n") as client:
        assert answers(client)[-1].startswith(b"400 ")


def test_trailers_without_end_end_the_connection(port: int) -> None:
    """Who has an answer and goes on with trailers of the same request is cut off: they would be kept in memory."""
    with connected(port, CHUNKED) as client:
        began = time.monotonic()
        assert seconds_until_closed(client, lambda: client.sendall(FIELDS)) < LATE
        assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n", 400),
        (b"GET / HTTP/1.0\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost:\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b/c\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: user@a\r\n", 400),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n", 200),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n", 200),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n", 400),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Folded: b\r\n c\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n", 400),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(port: int, head: bytes, status: int) -> None:
    """A head that another server on the way may read otherwise is answered with 400, and its connection closed."""
    body = b"0\r\n\r\n" if b"Transfer" in head else b""
    with connected(port, head + b"Connection: close\r\n\r\n" + body) as client:
        assert [int(answer.split()[0]) for answer in answers(client)] == [status]


def test_a_body_that_nobody_wants_is_not_waited_for(port: int) -> None:
    """An answer does not wait for a body that no route reads; then the client must begin its next head."""
    with connected(port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n") as client:
        assert client.recv(12) == b"HTTP/1.1 200"
        assert seconds_until_closed(client, lambda: client.sendall(b"a")) < LATE


def test_an_idle_connection_is_closed(port: int) -> None:
    """A connection is closed some seconds after its last answer, and can be used until then."""
    with connected(port, COMPLETE) as client:
        assert client.recv(12) == b"HTTP/1.1 200"
        time.sleep(PATIENCE / 2)
        client.recv(65536)
        client.sendall(COMPLETE)
        assert client.recv(12) == b"HTTP/1.1 200"
        assert seconds_until_closed(client) < LATE


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"], ids=["to be used again", "for once"])
def test_an_answer_that_nobody_reads_ends_the_connection(port: int, more: bytes) -> None:
    """A client that does not read its answer is cut off, also after the application has written all of it."""
    with connected(port, b"GET /large HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n") as client:
        time.sleep(3 * PATIENCE)
        read = 0
        while data := client.recv(65536):
            read += len(data)
        assert read < LARGE


def test_an_answer_that_is_read_slowly_arrives(port: int) -> None:
    """An answer that is read slowly but steadily arrives whole, however long that takes."""
    read = 0
    with connected(port, b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as client:
        began = time.monotonic()
        while data := client.recv(256 * 1024):
            read += len(data)
            time.sleep(PATIENCE / 10)
        assert time.monotonic() - began > 2 * PATIENCE
    assert read > LARGE


def test_a_websocket_that_is_not_read_is_told_why_it_is_closed(port: int, codes: list[int]) -> None:
    """A client that reads its WebSocket again after the deadline finds, behind all else, why it was closed."""
    with connected(port, HANDSHAKE) as client:
        eventually(lambda: codes == [connections.SLOW], within=LATE)
        assert client.makefile("rb").read().endswith(b"what was sent is not read")


def test_a_websocket_that_is_never_read_is_closed(port: int, codes: list[int]) -> None:
    """A client that never reads its WebSocket does not keep the connection: what it says later is refused."""
    with connected(port, HANDSHAKE) as client:
        eventually(lambda: codes == [connections.SLOW], within=LATE)
        eventually(lambda: is_refused(client), within=LATE)


def test_a_websocket_is_closed_that_answers_no_ping(port: int, codes: list[int]) -> None:
    """A client that has read all, but answers no ping, is told so."""
    with connected(port, HANDSHAKE) as client:
        assert client.makefile("rb").read().endswith(b"a ping was not answered")
    eventually(lambda: codes == [connections.UNANSWERED], within=LATE)


def test_many_connections_that_wait_keep_nobody_out(port: int) -> None:
    """A new connection takes the place of the one that has kept the server waiting longest."""
    with ExitStack() as stack:
        waiting = [stack.enter_context(connected(port, HEAD)) for _ in range(5)]
        for _ in range(3):
            assert not is_full(port)
        answers = []
        for client in waiting:
            with suppress(ConnectionError):
                client.sendall(b"\r\n")
            answers.append(client.recv(12))
        assert sorted(answers) == [b"", *[b"HTTP/1.1 200"] * 4]


def test_connections_at_work_are_not_ended_for_others(port: int) -> None:
    """When all connections are at work, one more is served with a mark by which the API refuses it."""
    with ExitStack() as stack:
        working = [stack.enter_context(connected(port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")) for _ in range(5)]
        eventually(lambda: is_full(port), within=LATE / 2)
        assert [client.recv(12) for client in working] == [b"HTTP/1.1 200"] * 5
        eventually(lambda: not is_full(port), within=2)


def test_an_address_keeps_no_more_connections_than_it_may() -> None:
    """Of an address that opens one connection too many, the one that has kept the server waiting longest is closed."""
    addresses = Addresses(2, Proxies(()))
    with running({connections.MOST: 50, connections.ADDRESSES: addresses}) as port, ExitStack() as stack:
        first, second, third = (stack.enter_context(connected(port, HEAD)) for _ in range(3))
        assert seconds_until_closed(first) < connections.HEAD_PATIENCE / 2
        for client in (second, third):
            client.sendall(b"Connection: close\r\n\r\n")
            # Its end as well: what the server has closed, it has forgotten before.
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 200")
        assert not addresses.opened("127.0.0.1", "another")
        assert not addresses.opened("127.0.0.1", "and one more")
        assert addresses.opened("127.0.0.1", "one too many")


def test_a_proxy_may_have_any_number_of_connections() -> None:
    """The connections of a proxy that is named are not counted by its address."""
    addresses = Addresses(1, Proxies(("127.0.0.0/8",)))
    with running({connections.MOST: 50, connections.ADDRESSES: addresses}) as port, ExitStack() as stack:
        clients = [stack.enter_context(connected(port, HEAD)) for _ in range(3)]
        for client in clients:
            client.sendall(b"\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"


@pytest.fixture(scope="module")
def small(api_database_url: str, api_broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """`celeriac api` for five connections."""
    directory: Path = tmp_path_factory.mktemp("small")
    few = {"CELERIAC_API_CONNECTIONS": "5", "CELERIAC_API_ADDRESS_CONNECTIONS": "2"}
    with serving(api_database_url, api_broker_url, directory, **few) as api:
        yield api


def test_the_api_is_served_over_such_connections(small: Api) -> None:
    """Many clients that never finish their heads keep no other caller out."""
    with ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(connected(httpx2.URL(small.url).port or 80, HEAD))
        assert httpx2.get(f"{small.url}/v1/jobs", headers=small.caller().headers).status_code == 200


def test_the_api_says_when_all_its_connections_are_at_work(small: Api) -> None:
    """With all connections at work the API answers 503 and closes; health checks are answered all the same."""
    caller = small.caller()
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {caller.headers['Authorization']}\r\n"
    half = f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode()
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(connected(httpx2.URL(small.url).port or 80, half))
        with httpx2.Client(verify=PLAIN, base_url=small.url) as client:
            response = client.get("/v1/jobs", headers=caller.headers)
            problem(response, 503, "overloaded")
            assert (response.headers["connection"], response.headers["retry-after"]) == ("close", "2")
            assert client.get("/livez").status_code == 200
    eventually(lambda: caller.get("/v1/jobs").status_code == 200, within=5)


def test_an_address_behind_a_proxy_has_its_share(small: Api) -> None:
    """What a proxy asks is counted by the address for which it does: 429 for the loud one, and nobody else."""
    caller = small.caller()
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {caller.headers['Authorization']}\r\n"
    loud = "X-Forwarded-For: 203.0.113.7\r\n"
    half = f"{head}{loud}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode()
    with httpx2.Client(verify=PLAIN, base_url=small.url) as client:

        def asked(address: str, path: str = "/v1/jobs") -> httpx2.Response:
            return client.get(path, headers={**caller.headers, "X-Forwarded-For": address})

        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(connected(httpx2.URL(small.url).port or 80, half))
            eventually(lambda: asked("203.0.113.7").status_code == 429, within=5)
            response = asked("203.0.113.7")
            problem(response, 429, "too_many_connections")
            assert (response.headers["connection"], response.headers["retry-after"]) == ("close", "2")
            assert asked("203.0.113.7", "/livez").status_code == 200
            assert asked("203.0.113.8").status_code == 200
        eventually(lambda: asked("203.0.113.7").status_code == 200, within=5)
