"""Apps whose tasks are nobody else's, and one database for all: these tests leave its schema as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import _state

from tasks.app import JobApp
from tests.tracked import empty
from tracking.db import Database


@contextmanager
def own_app(name: str, **options: Any) -> Iterator[JobApp]:
    """An app with Celery's `options`, whose tasks no later app gets."""
    app = JobApp(name, set_as_current=False, **options)
    app.config_from_object("celeryconfig")
    app.finalized = True
    state: Any = _state  # the stubs leave it out
    shared = set(state._on_app_finalizers)
    yield app
    app.close()
    state._on_app_finalizers.intersection_update(shared)  # by which Celery gives every later app its tasks


@pytest.fixture
def app() -> Iterator[JobApp]:
    """An app of this test: its tasks are nobody else's."""
    with own_app("calls") as app:
        yield app


@pytest.fixture
def database(pool: Database) -> Database:
    """A pool on the database of those tests, emptied; to make one of its own takes most of a quick test's time."""
    empty(pool)
    return pool


@pytest.fixture
def database_url(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)
