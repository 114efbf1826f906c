"""A canvas computes here what it computes on plain Celery: the same tasks, asked the same questions on both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.canvases import CANVASES, TYPED
from tests.live import LivePlatform
from tests.servers import Servers, new_database

ASK_PLAIN = "import sys, json; from tests import canvases, plain_celery"
ASK_PLAIN += "; print(json.dumps(canvases.answers(plain_celery.app, json.loads(sys.argv[1]))))"
ASK = "from tests import canvases; from tasks import app; import json"
ASK += "; print(json.dumps(canvases.answers(app, json.loads(stdin))))"


@pytest.fixture(scope="module")
def ours(servers: Servers, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Our answers to all canvases, on each broker."""
    with new_database(servers) as url:
        directory = tmp_path_factory.mktemp("ours")
        with LivePlatform(
            url, broker_url, directory, CELERIAC_IMPORTS="tests.canvases.tasks", CELERIAC_ORGANIZATION_LIMIT="0"
        ) as platform:
            platform.start_worker(concurrency=3)
            yield json.loads(platform.run(ASK, json.dumps(list(CANVASES)), timeout=240))


@pytest.fixture(scope="session")
def plain(servers: Servers) -> dict[str, Any]:
    """Plain Celery's answers to all canvases."""
    environment = {**os.environ, "PLAIN_URL": servers.valkey_url}
    command = [sys.executable, "-m", "celery", "-A", "tests.plain_celery", "worker", "-c", "3", "-Q", "plain"]
    quick = ["--without-mingle", "--without-gossip", "--without-heartbeat", "-l", "ERROR"]
    worker = subprocess.Popen([*command, *quick], env=environment, start_new_session=True)
    try:
        ask = [sys.executable, "-c", ASK_PLAIN, json.dumps([name for name in CANVASES if name not in TYPED])]
        told = subprocess.run(ask, env=environment, capture_output=True, text=True, timeout=240, check=True)
    finally:
        worker.terminate()
        worker.wait(20)
    answers: dict[str, Any] = json.loads(told.stdout)
    return answers


@pytest.mark.parametrize("name", CANVASES)
def test_a_canvas_gives_what_plain_celery_gives(name: str, plain: dict[str, Any], ours: dict[str, Any]) -> None:
    """A canvas gives plain Celery's value and types, or its exception and state."""
    assert ours[name] == (TYPED[name] if name in TYPED else plain[name])
