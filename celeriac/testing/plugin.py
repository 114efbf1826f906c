"""The plugin that pytest loads by itself. Nothing of the platform is imported before a test asks for a fixture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from celeriac.testing.inline import Collection, Ran
    from celeriac.testing.platform import RealPlatform

# ruff: noqa: PLC0415  the plugin is loaded in every session of whoever has Celeriac installed

IMPORTS = "celeriac_imports"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The modules with handlers, in pytest's configuration."""
    words = "Modules with handlers, which the platform of the fixture celeriac_platform imports. [CELERIAC_IMPORTS]"
    parser.addini(IMPORTS, words, type="args")


@pytest.fixture
def run_job() -> Callable[..., Ran]:
    """Runs a handler in the process of the test: `run_job(handler, payload)` returns what it did."""
    from celeriac.testing.inline import run_inline

    return run_inline


@pytest.fixture
def enqueued() -> Iterator[Collection]:
    """The jobs that the code of the test has sent so far; none of them goes anywhere."""
    from celeriac.testing.inline import collected

    with collected() as collection:
        yield collection


@pytest.fixture(scope="session")
def celeriac_platform(pytestconfig: pytest.Config) -> Iterator[RealPlatform]:
    """A platform of this session, with servers, a worker and an API of its own; it takes some seconds to start."""
    from celeriac.testing.platform import real_platform

    given: list[Any] = pytestconfig.getini(IMPORTS)
    imports = [str(each) for each in given] or _split(os.environ.get("CELERIAC_IMPORTS", ""))
    with real_platform(imports, path=[str(pytestconfig.rootpath)]) as platform:
        yield platform


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
