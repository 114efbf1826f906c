"""An API process of a run, and the tokens of those who call it."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import jwt

from bench.launch import program, say_nothing
from celeriac.embedded.supervisor import Part, Supervisor
from celeriac.preconditions import listen

LIFETIME = 3600  # seconds that a token is good for


class Callers:
    """Makes tokens with a secret of its own."""

    def __init__(self) -> None:
        self.secret = secrets.token_urlsafe(48)

    def rights(self, organization: str, user: str, permissions: Sequence[str]) -> dict[str, str]:
        """The header of a request by this user."""
        now = int(time.time())
        claims = {
            "sub": user,
            "org": organization,
            "permissions": list(permissions),
            "iat": now,
            "exp": now + LIFETIME,
            "iss": "celeriac",
            "aud": "celeriac",
        }
        return {"Authorization": f"Bearer {jwt.encode(claims, self.secret, algorithm='HS256')}"}


@contextmanager
def serving(
    callers: Callers, environment: Mapping[str, str], log: Path, is_ready: Callable[[str], bool], *beside: Part
) -> Iterator[str]:
    """The URL of an API that is ready; the parts `beside` it start first, and all end with the block."""
    with listen("127.0.0.1", 0) as listener, Supervisor(show=say_nothing) as supervisor:
        url, descriptor = f"http://127.0.0.1:{listener.getsockname()[1]}", listener.fileno()
        command = [sys.executable, "-m", "celeriac", "api", "--fd", str(descriptor)]
        known = {**environment, "CELERIAC_JWT_SECRET": callers.secret}
        for part in beside:
            supervisor.start(part)
        supervisor.start(program("api", command, known, log, ready=lambda _: is_ready(url), keep=[descriptor]))
        yield url
