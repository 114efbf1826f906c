"""A paged source on this machine, which answers what a test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Told:
    body: bytes | str = b""
    status: int = 200
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


Answers = Callable[[dict[str, str]], Told]


class Source(ThreadingHTTPServer):
    """`answers` takes the query of a request; `asked` are the addresses that were asked for."""

    daemon_threads = True

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/records"

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what some tests are about."""


class _Answer(BaseHTTPRequestHandler):
    server: Source

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        told = self.server.answers(dict(parse_qsl(urlsplit(self.path).query)))
        body = told.body.encode() if isinstance(told.body, str) else told.body
        self.send_response(told.status)
        for name, value in {"Content-Type": told.kind, "Content-Length": str(len(body)), **told.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def source(answers: Answers) -> Iterator[Source]:
    """A source, for as long as the block runs."""
    with Source(answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(5)
