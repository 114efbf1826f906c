"""The embedded PostgreSQL: private, durable, and back again after kill -9."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from celeriac.embedded import postgres, valkey
from celeriac.embedded.postgres import Cluster
from celeriac.embedded.processes import end, own_directory, run, spawn
from celeriac.embedded.supervisor import Supervisor
from tests.embedded import Servers, as_root, ask, keep, started
from tracking.errors import ConfigurationError
from tracking.exits import StartError


def test_database_answers_as_an_ordinary_role(running: Servers) -> None:
    """The embedded database is reached without a password, and not as a superuser."""
    assert ask(running.cluster, "SELECT current_user || current_setting('is_superuser')") == "celeriacoff"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("current_setting('fsync')", "on"),
        ("current_setting('full_page_writes')", "on"),
        ("current_setting('server_encoding')", "UTF8"),
        ("current_setting('listen_addresses')", ""),
        ("upper('é')", "É"),
    ],
)
def test_database_is_durable_unicode_and_not_on_the_network(running: Servers, expression: str, value: str) -> None:
    """The embedded database flushes commits, stores Unicode and listens on no network address."""
    assert ask(running.cluster, f"SELECT {expression}") == value


@as_root
def test_root_does_not_run_the_database(running: Servers) -> None:
    """Under root the database server runs as `nobody`, with none of our environment."""
    server = running.postgres
    assert (server.username(), set(server.environ()) - {"PATH", "LC_ALL"}) == ("nobody", set())


@as_root
def test_other_users_cannot_reach_the_database(running: Servers) -> None:
    """Other users of the machine cannot enter the directory of the database's socket."""
    assert "Permission denied" in psql_as(running.cluster, "daemon")


@as_root
def test_processes_of_the_servers_user_are_turned_away(running: Servers) -> None:
    """The database turns another process of its own user `nobody` away."""
    assert "Peer authentication failed" in psql_as(running.cluster, "nobody")


def test_database_survives_a_restart(data_dir: Path) -> None:
    """A row written before a stop is there after the next start, found by the data directory alone."""
    with started(postgres.part(cluster := postgres.open_cluster(data_dir))):
        keep(cluster)
    with started(postgres.part(again := postgres.open_cluster(data_dir))):
        assert ask(again, "SELECT answer FROM kept") == 42


def test_database_survives_kill(data_dir: Path) -> None:
    """Kill -9 of the server leaves its lock and its socket; it starts over them with the committed row."""
    cluster = postgres.open_cluster(data_dir)
    with started(postgres.part(cluster)) as server:
        keep(cluster)
        server.kill()
    with started(postgres.part(cluster)):
        assert ask(cluster, "SELECT answer FROM kept") == 42


def test_server_started_again_has_the_same_url(data_dir: Path) -> None:
    """A database server that died and came back has the same URL."""
    cluster, broker = postgres.open_cluster(data_dir), valkey.open_broker(data_dir)
    with started(valkey.part(broker)):
        pass
    assert (postgres.open_cluster(data_dir).url, valkey.open_broker(data_dir).url) == (cluster.url, broker.url)


def psql_as(cluster: Cluster, user: str) -> str:
    """What psql says to another user."""
    command = [cluster.binaries / "psql", "-h", cluster.sockets, "-U", "celeriac", "-c", "SELECT 1"]
    identity: dict[str, object] = {"user": user, "group": "nogroup", "extra_groups": [], "cwd": "/"}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **identity).stderr  # type: ignore[call-overload, no-any-return]


def test_modes_of_directories_that_are_not_ours_stay(data_dir: Path) -> None:
    """Starting the servers loosens nothing above the data directory."""
    parents = [*data_dir.parents]
    before = [stat.S_IMODE(path.stat().st_mode) for path in parents]
    with started(postgres.part(postgres.open_cluster(data_dir))), started(valkey.part(valkey.open_broker(data_dir))):
        pass
    assert [stat.S_IMODE(path.stat().st_mode) for path in parents] == before


def test_files_of_the_data_directory_are_private(data_dir: Path) -> None:
    """Nothing directly in the data directory or Valkey's own can be read by others."""
    valkey.open_broker(data_dir)
    postgres.open_cluster(data_dir)
    found = [path for path in (*data_dir.iterdir(), *(data_dir / "valkey").iterdir()) if path.stat().st_mode & 0o077]
    assert found == []


def test_half_made_cluster_is_made_anew(data_dir: Path) -> None:
    """Kill -9 during the first start of `up` does not spoil the next start."""
    cluster = postgres.open_cluster(data_dir)
    cluster.data.rename(cluster.home / "data.partial")
    (cluster.home / "data.partial" / "PG_VERSION").unlink()
    with started(postgres.part(postgres.open_cluster(data_dir))):
        assert ask(cluster, "SELECT 1") == 1


def test_lock_of_a_number_that_is_another_process_by_now(data_dir: Path) -> None:
    """With a stale lock file that names a foreign process the server starts, and that process lives on."""
    cluster = postgres.open_cluster(data_dir)
    other = spawn(["/bin/sleep", "60"], death_signal=signal.SIGKILL, environment=os.environ, account=cluster.account)
    (cluster.data / "postmaster.pid").write_text(f"{other.pid}\n{cluster.data}\n")
    with started(postgres.part(cluster)):
        assert other.poll() is None
    end(other, [])
    other.stdout.close()  # type: ignore[union-attr]


def test_database_of_another_version_is_refused(data_dir: Path) -> None:
    """An embedded database of an older version is refused in one line."""
    (postgres.open_cluster(data_dir).data / "PG_VERSION").write_text("14\n")
    with pytest.raises(ConfigurationError, match="is of PostgreSQL 14, installed is"):
        postgres.open_cluster(data_dir)


@as_root
def test_lost_database_is_not_replaced_by_an_empty_one(data_dir: Path) -> None:
    """A start is refused when the data directory remembers a database that is gone."""
    shutil.rmtree(postgres.open_cluster(data_dir).home)
    with pytest.raises(ConfigurationError, match="which is gone"):
        postgres.open_cluster(data_dir)


@as_root
@pytest.mark.parametrize("record", [b"../../etc", b"", b"\0" * 32, b"\xff" * 32])
def test_record_cannot_lead_elsewhere(data_dir: Path, record: bytes) -> None:
    """A data directory whose record is a path instead of a key, or is damaged, is refused."""
    (data_dir / "postgres.home").write_bytes(record)
    with pytest.raises(ConfigurationError, match="does not name a database"):
        postgres.open_cluster(data_dir)
    (data_dir / "postgres.home").unlink()


def test_clean_stop_leaves_no_socket_and_no_lock_file(data_dir: Path) -> None:
    """After a stop of the embedded servers no socket, pid file or lock file is left."""
    cluster, broker = postgres.open_cluster(data_dir), valkey.open_broker(data_dir)
    with started(postgres.part(cluster)), started(valkey.part(broker)):
        pass
    assert not [*cluster.home.rglob("*.pid"), *cluster.home.rglob(".s.*"), *data_dir.rglob("*.pid")]


def test_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    """A directory too deep for a socket's path has its socket elsewhere, always at the same place."""
    deep = tmp_path / ("d" * 100) / "run"
    assert postgres._short_enough(deep) == postgres._short_enough(deep)
    assert len(os.fsencode(postgres._short_enough(deep) / postgres.SOCKET)) <= postgres.LONGEST_SOCKET


def test_socket_directory_of_someone_else_is_refused(data_dir: Path) -> None:
    """A directory that was put where the socket goes, and that others can enter, is not used."""
    cluster = postgres.open_cluster(data_dir)
    cluster.sockets.mkdir()
    cluster.sockets.chmod(0o777)
    with pytest.raises(ConfigurationError, match="was made by someone else"):
        postgres._launch(cluster)


def test_directory_that_others_can_change_is_refused(tmp_path: Path) -> None:
    """A data directory open to others is refused, not repaired."""
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match="can be changed by other users"):
        own_directory(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o777


@as_root
def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Root does not write into a directory that a user could have prepared."""
    os.chown(tmp_path, 1, 1)
    with pytest.raises(ConfigurationError, match="belongs to user 1"):
        own_directory(tmp_path)


def test_server_that_cannot_start_is_one_line(data_dir: Path) -> None:
    """The error of a server that cannot start is its last line."""
    broker = valkey.open_broker(data_dir)
    with socket.socket() as taken, Supervisor() as supervisor:
        taken.bind(("127.0.0.1", broker.port))
        with pytest.raises(StartError, match=r"^valkey ended \(exit status 1\): [^\n]+$"):
            supervisor.start(valkey.part(broker))


def test_error_of_a_program_is_the_error_and_not_what_is_done_about_it(data_dir: Path) -> None:
    """A cluster that cannot start, or cannot be made, is refused with the server's error, not with its last line."""
    cluster = postgres.open_cluster(data_dir)
    for file in (cluster.data / "pg_wal").iterdir():
        if file.is_file():
            file.unlink()
    with Supervisor() as supervisor, pytest.raises(StartError, match=r"(PANIC|FATAL): .*checkpoint"):
        supervisor.start(postgres.part(cluster))
    words = ["initialization ... 12:30 [1] FATAL:  No space left on device", "STATEMENT: x", "initdb: removing data"]
    with pytest.raises(StartError, match=r"^sh failed: FATAL:  No space left on device$"):
        run(["/bin/sh", "-c", f"printf '%s\\n' '{chr(10).join(words)}'; exit 1"], seconds=30, environment={})
