"""The disk of the database is full under load: a clear 503, and everything goes on when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from celeriac.embedded import postgres
from celeriac.embedded.processes import own_directory
from celeriac.embedded.supervisor import Supervisor
from tests.api.calling import problem
from tests.api.conftest import serving
from tests.live import LivePlatform, empty_queues, eventually
from tests.servers import Servers, administrator
from tests.verifying import broken
from tracking.db import migrate
from tracking.urls import check_database

SIZE = "96m"  # of the disk: an empty database takes 15
MOST = 5_000  # jobs until there is no room: its tables have some left when the disk has none


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of its own, which the server's user can reach; skips where this user may not mount one."""
    path = Path(tempfile.mkdtemp(prefix="celeriac-disk-"))
    path.chmod(0o755)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", path], capture_output=True, text=True, check=False
    )
    if made.returncode:
        path.rmdir()
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
        path.rmdir()


@contextmanager
def own_server(directory: Path) -> Iterator[str]:
    """The URL of a PostgreSQL of this test alone: while a disk of its is full, no checkpoint of a server succeeds."""
    cluster = postgres.open_cluster(own_directory(directory))
    with Supervisor(show=lambda *_: None) as supervisor:
        supervisor.start(postgres.part(cluster))
        postgres.make_roles(cluster)
        yield check_database(cluster.url)
    postgres.discard(directory)


@contextmanager
def database_on(disk: Path, server: str) -> Iterator[str]:
    """The URL of a database of the newest schema all of whose tables are on that disk."""
    place = disk / "tables"
    place.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(place, "nobody")
    engine = create_engine(administrator(server), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    url = make_url(server).set(database="small").render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"CREATE TABLESPACE small LOCATION '{place}'"))
        connection.execute(text(f"CREATE DATABASE small OWNER {postgres.ROLE} TABLESPACE small"))
        migrate(url)
        yield url
        connection.execute(text("DROP DATABASE small WITH (FORCE)"))
        connection.execute(text("DROP TABLESPACE small"))


def fill(file: Path) -> None:
    """Leave no byte of the disk."""
    with file.open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:  # ENOSPC
            return


def test_a_database_whose_disk_is_full_says_so_and_loses_nothing(servers: Servers, tmp_path: Path) -> None:
    """With a full disk creates are 503 `database_full`, reads are answered, and every accepted job ends afterwards."""
    empty_queues(servers.valkey_url)
    with (
        small_disk() as disk,
        own_server(tmp_path / "server") as server,
        database_on(disk, server) as url,
        LivePlatform(url, servers.valkey_url, tmp_path) as platform,
        serving(url, servers.valkey_url, tmp_path) as api,
    ):
        worker = platform.start_worker()
        caller = api.caller("acme")
        accepted = [caller.create("count_words", payload={"words": ["before"]}).json()["jobId"]]
        fill(disk / "ballast")
        payload = {"words": ["x" * 1000]}
        for _ in range(MOST):
            answer = caller.create("count_words", payload=payload)
            if answer.status_code != 202:
                break
            accepted.append(answer.json()["jobId"])
        problem(answer, 503, "database_full")
        assert int(answer.headers["retry-after"]) > 0
        assert caller.get("/v1/jobs").status_code == 200
        assert caller.get(f"/v1/jobs/{accepted[-1]}/status").status_code == 200
        (disk / "ballast").unlink()
        accepted.append(eventually(lambda: caller.create("count_words", payload=payload).json().get("jobId")))
        for job_id in accepted:
            assert platform.wait_for(UUID(job_id)).status == "succeeded"
        assert worker.poll() is None
        assert sorted(str(job.id) for job in platform.jobs()) == sorted(accepted)
        assert broken(platform.database) == {}
