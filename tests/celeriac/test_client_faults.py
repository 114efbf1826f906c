"""The HTTP client with servers that have a bad day: repetitions that are safe, and a deadline for every wait."""

from __future__ import annotations

import asyncio
import pickle
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from celeriac.client import ApiError, AsyncClient, Client
from tests.receiving import make_certificate
from tracking.states import Status

BROKEN = (503, {"Retry-After": "0"}, b'{"code": "overloaded", "title": "Too many", "detail": "", "status": 503}')


@dataclass
class Script:
    """A server that gives these answers in turn, and what it was asked; `pause` seconds lie before each byte."""

    replies: list[tuple[int, dict[str, str], bytes]]
    pause: float = 0.0
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""


@contextmanager
def scripted(
    *replies: tuple[int, dict[str, str], bytes], pause: float = 0.0, tls: ssl.SSLContext | None = None
) -> Iterator[Script]:
    """Serve a script on loopback."""
    script = Script(list(replies), pause)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.asked.append((f"{self.command} {self.path}", dict(self.headers)))
            status, headers, body = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for byte in body if script.pause else ():
                    self.wfile.write(bytes([byte]))
                    time.sleep(script.pause)
                self.wfile.write(b"" if script.pause else body)
            except ConnectionError:
                return  # the client has had enough

        def log_message(self, *_: object) -> None:
            """Not on our screen."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}"
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
            script.url = f"https://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()


def created(job_id: UUID) -> tuple[int, dict[str, str], bytes]:
    """A good answer to a create."""
    body = f'{{"jobId": "{job_id}", "status": "queued", "timestamp": "2026-01-01T00:00:00.000Z", "later": 1}}'
    return 202, {}, body.encode()


def test_create_is_repeated_under_one_key() -> None:
    """The client repeats a create that was answered with 503 under the same idempotency key."""
    job_id = uuid4()
    with scripted(BROKEN, BROKEN, created(job_id)) as server, Client(server.url, "t") as asking:
        assert asking.create("open").job_id == job_id
    keys = {headers["Idempotency-Key"] for _, headers in server.asked}
    assert (len(server.asked), len(keys)) == (3, 1)


def test_who_asked_too_often_asks_again_when_told_to() -> None:
    """A 429 is repeated after its Retry-After when that ends in time; else it is an error at once."""
    busy = b'{"code": "too_many_requests", "title": "Too many requests", "detail": "", "status": 429}'
    job_id = uuid4()
    with scripted((429, {"Retry-After": "1"}, busy), created(job_id)) as server, Client(server.url, "t") as asking:
        began = time.monotonic()
        assert asking.create("open").job_id == job_id
        assert time.monotonic() - began >= 1
    for headers in ({}, {"Retry-After": "60"}):
        with scripted((429, headers, busy)) as server, Client(server.url, "t", patience=5) as asking:
            with pytest.raises(ApiError, match="too_many_requests"):
                asking.create("open")
            assert len(server.asked) == 1


def test_what_cannot_be_sent_is_refused_at_once_and_not_shown() -> None:
    """A client is not made with what is no address, nor with a token of two lines, which no message holds."""
    for url in ("nowhere", "ftp://h", "http://[", "", "http://h/sign-in?ticket=x", "http://h/#jobs"):
        with pytest.raises(ValueError, match="is no address such as"):
            Client(url, "t")
    for token in ("hun\nter2", "hun ter2", "hün", "", " \n"):
        with pytest.raises(ValueError, match="is no token") as refused:
            AsyncClient("http://127.0.0.1:9", token)
        assert not token or repr(token) not in str(refused.value)


@pytest.mark.parametrize("key", ["", "a\nb", "é", " a", "a ", "x" * 256])
def test_a_key_that_no_header_holds_is_refused_at_once(key: str) -> None:
    """What can be no Idempotency-Key is told to its author, and is not taken for a server that is away for 30 s."""
    client = Client("http://127.0.0.1:9", "token")
    with client, pytest.raises(ValueError, match="is no Idempotency-Key"):
        client.create("open", {}, idempotency_key=key)


def test_retry_after_of_a_503_is_waited() -> None:
    """The client repeats a request after the Retry-After of a 503, not earlier and not much later."""
    busy = (503, {"Retry-After": "1"}, BROKEN[2])
    began = time.monotonic()
    with scripted(busy, created(uuid4())) as server, Client(server.url, "t") as asking:
        asking.create("open")
    assert 1 <= time.monotonic() - began < 5


def test_patience_ends() -> None:
    """The client gives a server that stays unavailable up in time, with the server's own words."""
    began = time.monotonic()
    with (
        scripted(BROKEN) as server,
        Client(server.url, "t", patience=0.8) as asking,
        pytest.raises(ApiError, match="overloaded"),
    ):
        asking.create("open")
    assert time.monotonic() - began < 3
    assert len(server.asked) > 1


def test_longer_retry_after_than_patience_is_not_waited() -> None:
    """The client raises at once when Retry-After is longer than its patience."""
    busy = (503, {"Retry-After": "60"}, BROKEN[2])
    with (
        scripted(busy) as server,
        Client(server.url, "t", patience=5) as asking,
        pytest.raises(ApiError) as raised,
    ):
        asking.create("open")
    assert (raised.value.retry_after, len(server.asked)) == (60, 1)


def test_a_cancel_is_not_repeated() -> None:
    """The client does not repeat a cancel, which has no key."""
    with (
        scripted(BROKEN) as server,
        Client(server.url, "t") as asking,
        pytest.raises(ApiError, match="overloaded"),
    ):
        asking.cancel(uuid4())
    assert len(server.asked) == 1


def test_a_retry_is_repeated_under_one_key() -> None:
    """The client repeats a retry that was answered with 503 under the same key, by which the job is retried once."""
    moved: tuple[int, dict[str, str], bytes] = (
        200,
        {},
        b'{"message": "", "status": "queued", "timestamp": "2026-01-01T00:00:00.000Z"}',
    )
    with scripted(BROKEN, BROKEN, moved) as server, Client(server.url, "t") as asking:
        assert asking.retry(uuid4()) is Status.QUEUED
    keys = {headers["Idempotency-Key"] for _, headers in server.asked}
    assert (len(server.asked), len(keys)) == (3, 1)


def test_closed_port_is_unreachable() -> None:
    """A closed port raises one line that names the address, without a status."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with Client(url, "t", patience=0) as asking, pytest.raises(ApiError) as raised:
            asking.stats()
    assert (raised.value.code, raised.value.status, raised.value.is_temporary) == ("unreachable", None, True)
    assert str(raised.value).startswith(f"The API gave no answer: {url}/v1/jobs/stats: ")


def test_silent_server_is_given_up() -> None:
    """A server that accepts a connection and is silent is unreachable after the client's `timeout`."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, "t", patience=0, timeout=0.3) as asking, pytest.raises(ApiError, match=r"\(unreachable\)$"):
            asking.stats()


@pytest.mark.parametrize(
    "answer",
    [
        (404, {}, b"<html>nginx</html>"),
        (500, {}, b"[]"),
        (301, {"Location": "https://elsewhere.invalid/"}, b""),
        (200, {}, b"<html>welcome</html>"),
        (200, {}, b'{"pending": "many"}'),
    ],
)
def test_strange_answer_is_an_error(answer: tuple[int, dict[str, str], bytes]) -> None:
    """An answer that is not of this API is one line that says what came from where."""
    with scripted(answer) as server, Client(server.url, "t") as asking, pytest.raises(ApiError) as raised:
        asking.stats()
    assert (raised.value.code, raised.value.status) == ("unknown_answer", answer[0])
    assert f"{answer[0]} from {server.url}/v1/jobs/stats" in str(raised.value)
    assert ("leads to https://elsewhere.invalid/ (" in str(raised.value)) == (answer[0] == 301)


def test_an_error_goes_from_process_to_process() -> None:
    """A pickle of an error is that error: pools of processes hand it over, and break over one that cannot be read."""
    errors = [{"field": "priority", "message": "too high"}]
    error = ApiError(
        "invalid_request", "The request is not valid", "priority", status=422, retry_after=3, errors=errors
    )
    read = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert (str(read), vars(read)) == (str(error), vars(error))


def test_slow_download_is_given_up(tmp_path: Path) -> None:
    """A download that drips ends at its deadline and leaves nothing behind."""
    with (
        scripted((200, {}, bytes(1000)), pause=0.05) as server,
        Client(server.url, "t") as asking,
        pytest.raises(ApiError, match=r"\(too_late\)$"),
    ):
        asking.download("/v1/exports/x.csv", tmp_path / "x.csv", within=0.4)
    assert list(tmp_path.iterdir()) == []


def test_cut_download_is_an_error(tmp_path: Path) -> None:
    """A download that is cut is an error, and leaves no file."""
    cut = (200, {"Content-Length": "1000"}, b"half")
    with (
        scripted(cut) as server,
        Client(server.url, "t", patience=0) as asking,
        pytest.raises(ApiError, match=r"\(unreachable\)$"),
    ):
        asking.download("/v1/exports/x.csv", tmp_path / "x.csv", within=5)
    assert list(tmp_path.iterdir()) == []


def test_token_stays_at_home(tmp_path: Path) -> None:
    """A download from another server's address is refused before the token is sent."""
    with (
        scripted((200, {}, b"x")) as server,
        Client("http://127.0.0.1:9", "t") as asking,
        pytest.raises(ValueError, match="shall not see the token"),
    ):
        asking.download(f"{server.url}/v1/exports/x.csv", tmp_path / "x.csv")
    assert server.asked == []


def test_loopback_needs_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client does not use the environment's proxy for loopback addresses."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    job_id = uuid4()
    with scripted(created(job_id)) as server, Client(server.url, "t", patience=0) as asking:
        assert asking.create("open").job_id == job_id


def renewed(directory: Path, served: ssl.SSLContext) -> None:
    """The server has another certificate, and the file of those that are trusted is another one."""
    trusted = make_certificate(directory, "localhost").replace(directory / "trusted.pem")
    served.load_cert_chain(trusted)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_renewed_certificate_is_trusted_by_a_client_that_is_open(
    kind: type[Client | AsyncClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that was made before SSL_CERT_FILE was replaced trusts what that holds now, and no more what it held."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    served, job_id = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), uuid4()
    renewed(tmp_path, served)
    fine, before = created(job_id), tmp_path / "before.pem"
    with scripted((fine[0], {"Connection": "close"}, fine[2]), tls=served) as server, asyncio.Runner() as runner:
        client = kind(server.url, "t", patience=0)

        def ask() -> UUID:
            made = client.create("open")
            return runner.run(made).job_id if asyncio.iscoroutine(made) else made.job_id

        assert ask() == job_id
        before.write_bytes((tmp_path / "trusted.pem").read_bytes())
        renewed(tmp_path, served)
        assert ask() == job_id
        served.load_cert_chain(before)
        with pytest.raises(ApiError, match="certificate"):
            ask()
        if isinstance(client, AsyncClient):
            runner.run(client.aclose())
        else:
            client.close()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_certificates_that_cannot_be_read_count_where_they_are_needed(
    kind: type[Client | AsyncClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the file of SSL_CERT_FILE a request over http goes on, and one over https says which error there is."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
    served, job_id = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), uuid4()
    served.load_cert_chain(make_certificate(tmp_path, "localhost"))

    def ask(url: str) -> UUID:
        with asyncio.Runner() as runner:
            made = kind(url, "t", patience=0).create("open")
            return runner.run(made).job_id if asyncio.iscoroutine(made) else made.job_id

    with scripted(created(job_id)) as server:
        assert ask(server.url) == job_id
    with scripted(created(job_id), tls=served) as server, pytest.raises(ApiError, match="whom to trust cannot be read"):
        ask(server.url)
