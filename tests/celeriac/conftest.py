"""An API for the clients of these tests, and somebody who may call it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from tests.api.calling import Api, Caller
from tests.api.conftest import Servers, serving


@pytest.fixture(scope="module")
def api(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A running API whose jobs stay as the tests put them."""
    broker_url = make_url(servers.valkey_url).set(database="12").render_as_string(hide_password=False)
    with serving(servers.database_url, broker_url, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
def caller(api: Api) -> Caller:
    """Somebody in an organization of this test alone."""
    return api.caller()
