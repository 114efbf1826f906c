"""An S3-compatible storage on this machine, with one bucket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import httpx2

from tests.live import eventually

NAME = "celeriac-files"


@dataclass(frozen=True)
class Storage:
    """Where it listens; `environment` are the settings that use it."""

    port: int

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CELERIAC_EXPORTS_URL": f"s3://{NAME}/of/tests",
            "CELERIAC_EXPORTS_ENDPOINT": f"http://127.0.0.1:{self.port}",
            **CREDENTIALS,
        }

    def objects(self) -> list[str]:
        """The keys of all objects."""
        answer = httpx2.get(f"http://127.0.0.1:{self.port}/{NAME}?list-type=2", trust_env=False)
        return [part.partition("</Key>")[0] for part in answer.text.split("<Key>")[1:]]


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret of a test",
    "AWS_REGION": "eu-central-1",
}


@contextmanager
def storage() -> Iterator[Storage]:
    """A storage of its own, for as long as the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: _answers(port), within=30, what="start of the storage")
            httpx2.put(f"http://127.0.0.1:{port}/{NAME}", trust_env=False).raise_for_status()
            with patch.dict(os.environ, CREDENTIALS):
                yield Storage(port)
        finally:
            server.kill()


def _answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/moto-api/", trust_env=False).is_success
    except httpx2.TransportError:
        return False
