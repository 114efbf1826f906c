"""A data directory of each test, and both servers for those that only look at them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.embedded import postgres, valkey
from celeriac.embedded.postgres import Cluster
from celeriac.embedded.processes import own_directory
from tests.embedded import Servers, started


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that has just been made."""
    directory = own_directory(tmp_path_factory.mktemp("initialised") / "data")
    yield postgres.open_cluster(directory)
    postgres.discard(directory)


@pytest.fixture
def data_dir(tmp_path: Path, initialised: Cluster) -> Iterator[Path]:
    """A data directory under a parent of mode 700, and nothing of it left elsewhere afterwards.

    With a copy of a cluster: to make one takes most of a start's time.
    """
    parent = tmp_path / "private"
    parent.mkdir(mode=0o700)
    directory = own_directory(parent / "data")
    subprocess.run(["cp", "-a", initialised.data, postgres._cluster(directory).data], check=True)
    yield directory
    postgres.discard(directory)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Both servers, for tests that only look at them."""
    directory = own_directory(tmp_path_factory.mktemp("running") / "data")
    cluster, broker = postgres.open_cluster(directory), valkey.open_broker(directory)
    with started(postgres.part(cluster)) as database_server, started(valkey.part(broker)) as broker_server:
        yield Servers(cluster, broker, database_server, broker_server)
    postgres.discard(directory)
