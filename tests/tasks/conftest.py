"""An app whose tasks are nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import _state

from tasks.app import JobApp


@pytest.fixture
def app() -> Iterator[JobApp]:
    """An app of this test: its tasks are nobody else's."""
    app = JobApp("calls", set_as_current=False)
    app.config_from_object("celeryconfig")
    app.finalized = True
    state: Any = _state  # the stubs leave it out
    shared = set(state._on_app_finalizers)
    yield app
    app.close()
    state._on_app_finalizers.intersection_update(shared)  # by which Celery gives every later app its tasks
