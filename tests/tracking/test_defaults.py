"""What decides who may do how much is always said: nobody who forgets it gets more than who says it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from typing import Any

import pytest

import tasks
import tracking
from tests.tracked import Tracked, new_job
from tracking import jobs
from tracking.admission.rule import UNLIMITED, Limits
from tracking.errors import UnknownDependency
from tracking.models import Owner, Scope

DECISIVE = ("limits", "scope", "owner", "organization_id", "organization", "actor")

# Those that take less when nothing is said.
NARROWER = {
    "tracking.jobs.submit.submit": "a job may depend on its owner's own",
}


def _functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for package in (tracking, tasks):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if ".migrations." in module.name or ".versions" in module.name:
                continue
            loaded = importlib.import_module(module.name)
            for name, function in inspect.getmembers(loaded, inspect.isfunction):
                if function.__module__ == module.name:
                    yield f"{module.name}.{name}", function


def test_no_function_has_a_default_for_what_decides() -> None:
    """No function of tracking has a default for limits, scope, owner or actor."""
    defaults = {
        name
        for name, function in _functions()
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name in DECISIVE and parameter.default is not parameter.empty
    }
    assert defaults - NARROWER.keys() == set()


@pytest.mark.parametrize(("value", "name"), [(Limits, "concurrency"), (Scope, "user_id"), (Scope, "organization_id")])
def test_no_value_widens_itself(value: Any, name: str) -> None:
    """No value of tracking gets more rights by a field that was left out."""
    [field] = [each for each in fields(value) if each.name == name]
    assert (field.default, field.default_factory) == (MISSING, MISSING)


def test_without_a_scope_a_job_depends_on_its_owners_own_only(tracked: Tracked) -> None:
    """Without a scope a job can depend on its owner's own jobs only."""
    colleagues = tracked.submit(owner=Owner("acme", "u2"))
    mine = tracked.submit()
    with pytest.raises(UnknownDependency):
        jobs.submit(tracked.connection, new_job(depends_on=[colleagues.id]), UNLIMITED)
    assert jobs.submit(tracked.connection, new_job(depends_on=[mine.id]), UNLIMITED).created
    wide = Scope("acme", None)
    assert jobs.submit(tracked.connection, new_job(depends_on=[colleagues.id]), UNLIMITED, scope=wide).created
