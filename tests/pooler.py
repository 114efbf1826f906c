"""A PgBouncer in front of a database of a test, in the mode that gives each transaction a connection of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingUnixStreamServer

import psycopg
import pytest
from sqlalchemy import URL, make_url

from tests.live import eventually

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PORT, BEHIND = 6432, 5432  # of its socket, and of that to PostgreSQL, in a directory of their own
CONNECTIONS = 2  # to the database: fewer than those who come have, so that they share them
ACCOUNT = "nobody"  # PgBouncer does not run as root

CONFIGURATION = f"""
[databases]
{{behind.database}} = host={{directory}} port={BEHIND} user={{behind.username}}
[pgbouncer]
pool_mode = transaction
default_pool_size = {CONNECTIONS}
listen_addr =
listen_port = {PORT}
unix_socket_dir = {{directory}}
unix_socket_mode = 0777
auth_type = any
{{more}}
"""


@contextmanager
def pooler(url: str, more: str = "") -> Iterator[str]:
    """The URL of a PgBouncer in front of `url`; `more` lines of its configuration. Ends with the block."""
    if PROGRAM is None:
        assert "CI" not in os.environ, "pgbouncer is missing"
        pytest.skip("no pgbouncer on this machine: on Debian `apt-get install pgbouncer`")
    behind = make_url(url)
    own: dict[str, str] = {"user": ACCOUNT} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pooler-") as name, _relayed(Path(name), behind):
        directory = Path(name)
        file = directory / "pgbouncer.ini"
        file.write_text(CONFIGURATION.format(behind=behind, directory=directory, more=more))
        for path in (directory, *directory.iterdir()) if own else ():
            shutil.chown(path, ACCOUNT)
        process = subprocess.Popen([PROGRAM, "-q", file], stderr=subprocess.DEVNULL, **own)  # type: ignore[call-overload]
        try:
            pooled = behind.set(query={"host": str(directory), "port": str(PORT)}, port=None, host=None)
            eventually((directory / f".s.PGSQL.{PORT}").exists, what="PgBouncer")
            yield pooled.render_as_string(hide_password=False)
        finally:
            process.kill()
            process.wait(10)


@contextmanager
def _relayed(directory: Path, behind: URL) -> Iterator[None]:
    """A socket in the directory, of PostgreSQL's name, that leads to it: its kernel tells it that we call."""
    given = psycopg.conninfo.conninfo_to_dict(behind.set(drivername="postgresql").render_as_string(hide_password=False))
    upstream = f"{given['host']}/.s.PGSQL.{given.get('port', 5432)}"

    class Relay(BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(upstream)
                back = threading.Thread(target=_pump, args=(server, self.request), daemon=True)
                back.start()
                _pump(self.request, server)
                back.join()

    with ThreadingUnixStreamServer(str(directory / f".s.PGSQL.{BEHIND}"), Relay) as relay:
        relay.daemon_threads = True
        relay.block_on_close = False
        thread = threading.Thread(target=relay.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield
        relay.shutdown()
        thread.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes until there is no more; then say so."""
    with suppress(OSError):
        while some := source.recv(65536):
            target.sendall(some)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
