"""Flower as a part of `celeriac up`: whoever reaches it controls workers, so it asks for a password."""

from __future__ import annotations

import http.client
import importlib.util
import os
import secrets
import signal
import socket
import sys
from http import HTTPStatus
from pathlib import Path

from celeriac.embedded.processes import Steps, spawn, write_private
from celeriac.embedded.supervisor import Part
from tracking.errors import ConfigurationError

USER = "celeriac"
PASSWORD_FILE = "flower_password"  # noqa: S105 - a file's name, in the data directory
STEPS: Steps = ((signal.SIGTERM, 5.0),)
# Not `celery -A tasks`, which would look for that module in the current directory first: handlers are found there last.
START = "import os, sys; sys.path.append(os.getcwd()); from celeriac import app; app.start(sys.argv[1:])"


def part(data_dir: Path, host: str, port: int) -> Part:
    """Flower on this address. Raises ConfigurationError when it is not installed, or the port is taken."""
    if importlib.util.find_spec("flower") is None:
        raise ConfigurationError("--flower needs a package that is not here: pip install 'celeriac[flower]'")
    _require_free(host, port)
    # Routine lines of its own would stand below what `up` says when it is ready.
    own = ("flower", f"--address={host}", f"--port={port}", "--logging=warning")
    command = [sys.executable, "-P", "-c", START, *own]
    # In the environment: the list of processes shows arguments to everybody.
    environment = {**os.environ, "FLOWER_BASIC_AUTH": f"{USER}:{_password(data_dir / PASSWORD_FILE)}"}
    return Part(
        name="flower",
        launch=lambda: spawn(command, death_signal=signal.SIGKILL, environment=environment),
        steps=STEPS,
        ready=lambda _pid: _answers(host, port),
    )


def _password(path: Path) -> str:
    """The password that is kept, or a new one, in a file of mode 0600."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text().strip()


def _require_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise ConfigurationError(
            f"port {port} of {host} is not free for Flower ({error.strerror}): --flower-port"
        ) from None


def _answers(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):  # not yet serving
        return False
    finally:
        connection.close()
