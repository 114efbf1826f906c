"""A hostile or failing server of public keys: it holds up only tokens that need it, and not for long."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import jwt
import pytest

from api import auth, keys
from tests.api.calling import PLAIN, problem
from tests.api.conftest import serving
from tests.api.test_tokens import RSA_KEY, claims, keys_at, published, refusal, settings, verify
from tests.live import eventually

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GOOD = json.dumps({"keys": [published(RSA_KEY, "r")]}).encode()
TOKEN = jwt.encode(claims(exp=int(time.time()) + 3600), RSA_KEY, "RS256", {"kid": "r"})
PATIENCE = keys.PATIENCE + 1  # seconds: the promise, and what the test itself takes


@dataclass
class Server:
    """A server that answers each connection in its own way."""

    port: int
    asked: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"


Answer = Callable[[Server, socket.socket], object]


def sent(data: bytes) -> Answer:
    """Answer with this, and close."""
    return lambda _, connection: connection.sendall(data)


def body(data: bytes, head: bytes = HEAD) -> Answer:
    return sent(head + b"Content-Length: %d\r\n\r\n" % len(data) + data)


def listing(listed: Sequence[object]) -> Answer:
    """Answer with these keys, as they are by then."""

    def answer(server: Server, connection: socket.socket) -> None:
        body(json.dumps({"keys": listed}).encode())(server, connection)

    return answer


def drip(data: bytes, head: bytes = b"") -> Answer:
    """Answer with this, the rest byte by byte, five a second."""

    def answer(server: Server, connection: socket.socket) -> None:
        connection.sendall(head)
        for byte in data:
            if server.over.wait(0.2):
                return
            connection.sendall(bytes([byte]))

    return answer


def flood(data: bytes, head: bytes = b"") -> Answer:
    """Answer with this, and then the same for ever."""

    def answer(server: Server, connection: socket.socket) -> None:
        connection.sendall(head)
        while not server.over.is_set():
            connection.sendall(data)

    return answer


@contextmanager
def answering(answer: Answer) -> Iterator[Server]:
    """A server that answers so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener.getsockname()[1])

        def talk(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(65536)
                answer(server, connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    server.asked += 1
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server
        server.over.set()
        listener.shutdown(socket.SHUT_RDWR)


HOSTILE: dict[str, Answer] = {
    "silent": lambda server, _: server.over.wait(60),
    "closes at once": sent(b""),
    "a head byte by byte": drip(HEAD + b"\r\n" + GOOD),
    "a body byte by byte": drip(GOOD, HEAD + b"\r\n"),
    "an endless head": flood(b"X-A: b\r\n", HEAD),
    "an endless body": flood(b" " * 1000, HEAD + b"\r\n"),
    "an endless list": flood(b"{},", HEAD + b'\r\n{"keys": ['),
    "endless chunks": flood(b"1\r\n \r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
    "endless early hints": flood(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "a body that is cut": sent(HEAD + b"Content-Length: 100000\r\n\r\n" + GOOD),
    "100 MB announced": sent(HEAD + b"Content-Length: 100000000\r\n\r\n" + b" " * 300_000),
    "compressed": body(gzip.compress(b" " * 10_000_000), HEAD + b"Content-Encoding: gzip\r\n"),
    "an error with keys": sent(b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD),
    "no content": sent(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "not HTTP": sent(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "a page": body(b"<html>"),
    "empty": body(b""),
    "not UTF-8": body(b'{"keys": [{"kid": "\xff"}]}'),
    "100,000 deep": body(b"[" * 100_000),
    "a list": body(b"[]"),
    "null": body(b"null"),
    "no keys": body(b'{"keys": {}}'),
    "keys that are none": body(
        json.dumps(
            {
                "keys": [
                    *(1, None, "r", [], {}, {"kty": 5}, {"kty": "RSA", "alg": ["RS256"]}, {"kty": "oct", "k": "eA"}),
                    *({"kty": "RSA", "n": 1, "e": {}, "kid": "r"}, {"kty": "EC", "crv": [], "kid": "r"}),
                    {**published(RSA_KEY, "r"), "kid": ["r"]},
                    {**published(RSA_KEY, "r"), "use": "enc"},
                ]
            }
        ).encode()
    ),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_server_of_keys_that_does_harm_is_503_in_time(answer: Answer) -> None:
    """A harmful key server is asked once for twenty callers, who get 503, and then left alone for a while."""
    with answering(answer) as server:
        verifier = auth.verifier(settings(jwks_url=server.url))

        async def ask() -> list[str]:
            refused = await asyncio.gather(*(verifier.principal(TOKEN) for _ in range(20)), return_exceptions=True)
            return [str(getattr(each, "code", repr(each))) for each in refused]

        began = time.monotonic()
        assert set(asyncio.run(ask())) == {"keys_unavailable"}
        assert time.monotonic() - began < PATIENCE
        began = time.monotonic()
        assert refusal(verifier, TOKEN) == "keys_unavailable"
        assert time.monotonic() - began < 0.5
        assert server.asked == 1


def test_a_redirect_is_not_followed() -> None:
    """A redirect of the key server is not followed."""
    with keys_at({"keys": [published(RSA_KEY, "r")]}) as (good, asked):
        head = f"HTTP/1.1 302 Found\r\nLocation: {good}\r\nContent-Length: 0\r\n\r\n"
        with answering(sent(head.encode())) as server:
            assert refusal(auth.verifier(settings(jwks_url=server.url)), TOKEN) == "keys_unavailable"
        assert asked.asked == 0


def test_usable_keys_count_whatever_stands_beside_them() -> None:
    """A key of an unknown kind in the set takes no usable key away."""
    mixed = json.dumps({"keys": [1, {"kty": "new"}, published(RSA_KEY, "r")]}).encode()
    with answering(body(mixed)) as server:
        assert verify(auth.verifier(settings(jwks_url=server.url)), TOKEN).user == "u1"


def test_known_keys_are_used_at_once_while_their_server_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the key server hangs, only tokens with an unknown key wait; keys that are too old are not used."""
    good = True

    def answer(server: Server, connection: socket.socket) -> None:
        (body(GOOD) if good else HOSTILE["silent"])(server, connection)

    other = jwt.encode(claims(), RSA_KEY, "RS256", {"kid": "other"})
    with answering(answer) as server:
        verifier = auth.verifier(settings(jwks_url=server.url))
        assert verify(verifier, TOKEN).user == "u1"
        good = False
        assert refusal(verifier, other) == "token_invalid"
        assert server.asked == 1
        for name in ("LIFESPAN", "UNKNOWN_PAUSE"):
            monkeypatch.setattr(keys, name, 0.0)

        async def ask() -> tuple[set[str], str, float]:
            waiting = asyncio.create_task(verifier.principal(other))
            await asyncio.sleep(0.1)
            began = time.monotonic()
            known = [(await verifier.principal(TOKEN)).user for _ in range(20)]
            took = time.monotonic() - began
            refused = await asyncio.gather(waiting, return_exceptions=True)
            return set(known), str(getattr(refused[0], "code", refused)), took

        users, code, took = asyncio.run(ask())
        assert (users, code) == ({"u1"}, "keys_unavailable")
        assert took < 0.5
        monkeypatch.setattr(keys, "LONGEST", 0.0)
        assert refusal(verifier, TOKEN) == "keys_unavailable"


def test_a_key_that_is_new_is_found_and_one_that_is_withdrawn_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """New keys are found and withdrawn keys dropped after the documented pauses."""
    monkeypatch.setattr(keys, "UNKNOWN_PAUSE", 0.0)
    listed = [published(RSA_KEY, "r")]

    with answering(listing(listed)) as server:
        verifier = auth.verifier(settings(jwks_url=server.url))
        assert verify(verifier, TOKEN).user == "u1"
        listed[:] = [published(RSA_KEY, "new")]
        assert verify(verifier, jwt.encode(claims(), RSA_KEY, "RS256", {"kid": "new"})).user == "u1"
        assert refusal(verifier, TOKEN) == "token_invalid"


def test_everything_that_needs_no_new_key_goes_on(api_database_url: str, api_broker_url: str, tmp_path: Path) -> None:
    """While sixty requests wait for keys, health checks and refusals are answered at once."""
    with answering(HOSTILE["a body byte by byte"]) as server:
        environment = {"CELERIAC_JWT_SECRET": "", "CELERIAC_JWKS_URL": server.url}
        with (
            serving(api_database_url, api_broker_url, tmp_path, **environment) as api,
            ThreadPoolExecutor(60) as threads,
            httpx2.Client(
                verify=PLAIN, base_url=api.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10
            ) as client,
        ):
            eventually(lambda: api.client.get("/readyz").status_code == 200, what="readiness")
            waiting = [threads.submit(client.get, "/v1/jobs") for _ in range(60)]
            eventually(lambda: server.asked, what="a question for keys")
            began = time.monotonic()
            for path, status in (("/livez", 200), ("/healthz", 200), ("/readyz", 200), ("/v1/jobs", 401)):
                assert api.client.get(path, timeout=2).status_code == status
            assert time.monotonic() - began < 1
            assert not any(request.done() for request in waiting)
            for request in waiting:
                problem(request.result(), 503, "keys_unavailable")
                assert request.result().headers["retry-after"]
            assert server.asked == 1
