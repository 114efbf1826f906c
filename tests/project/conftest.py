"""What the examples of the documentation run with."""

from __future__ import annotations

import pytest

from tests.servers import Servers
from tracking.settings import settings


@pytest.fixture
def configured(database_url: str, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a database of this test, as an operator on its host has them."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("BROKER_URL", servers.valkey_url)
    settings.cache_clear()
