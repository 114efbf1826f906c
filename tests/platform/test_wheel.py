"""What is installed works beside a user's modules of the same names, or refuses them in one line."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.celeriac.test_face import CALL, HANDLER, TOOLS
from tests.servers import Servers

# Whoever imports one of them instead of ours ends at once.
STRANGER = 'raise RuntimeError("the module of the user was imported")\n'
SETTINGS = {
    "DATABASE_URL": "postgresql://nowhere/none",
    "BROKER_URL": "redis://nowhere",
    "CELERIAC_JWT_SECRET": secrets.token_urlsafe(48),
}
SUBMIT = """
from images import add_up

result = add_up.delay(40, y=2)
print(result.get(timeout=60))
"""
API_OF_THE_USER = """
import api
from celeriac import app
from api.routes import ROUTES

print(app.main, ROUTES)
"""


@dataclass(frozen=True)
class Installed:
    """A virtual environment that has the wheel, and nothing of this directory."""

    programs: Path

    def run(self, *command: str, within: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of it to its end, in this directory."""
        return subprocess.run(
            [self.programs / command[0], *command[1:]],
            cwd=within,
            env={"PATH": "/usr/bin:/bin", **environment},
            capture_output=True,
            check=False,
            text=True,
            timeout=300,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, built and installed; what it needs is that of the tests."""
    place = tmp_path_factory.mktemp("wheel")
    for command in (
        (TOOLS / "hatchling", "build", "--target", "wheel", "--directory", place),
        (TOOLS / "uv", "venv", "--quiet", "--python", sys.executable, place / "venv"),
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=TOOLS.parents[1])
    packages = next((place / "venv" / "lib").glob("python*")) / "site-packages"
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib"))
    (wheel,) = place.glob("*.whl")
    install = (TOOLS / "uv", "pip", "install", "--quiet", "--offline", "--no-deps")
    subprocess.run((*install, "--python", place / "venv", wheel), check=True, capture_output=True, timeout=60)
    return Installed(place / "venv" / "bin")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A user's directory with handlers, and modules whose names we have as well."""
    (tmp_path / "images.py").write_text(HANDLER)
    for name in ("tasks.py", "tracking.py", "celeryconfig.py", "celeriaconfig.py"):
        (tmp_path / name).write_text(STRANGER)
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "__init__.py").write_text(STRANGER)
    return tmp_path


def test_the_wheel_is_typed_and_holds_nothing_else(installed: Installed) -> None:
    """The wheel holds four typed packages and celeryconfig.py."""
    (wheel,) = installed.programs.parents[1].glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    ours = {"api", "celeriac", "celeryconfig.py", "tasks", "tracking"}
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == ours
    assert {name for name in names if name.endswith("py.typed")} == {
        f"{package}/py.typed" for package in ours if "." not in package
    }


def test_handlers_are_called_beside_modules_of_our_names(installed: Installed, shop: Path) -> None:
    """Handlers run beside a user's modules with our names, under our settings of Celery."""
    (shop / "main.py").write_text(HANDLER + CALL + "print(app.conf.result_backend)\n")
    done = installed.run("python", "main.py", within=shop)
    assert (done.stdout, done.stderr) == ("called\ntasks.backend:RowBackend\n", "")


def test_a_program_keeps_an_api_of_its_own(installed: Installed, shop: Path) -> None:
    """A program's own `api` module stays importable, since ours is used by the commands alone."""
    (shop / "api" / "__init__.py").write_text("")
    (shop / "api" / "routes.py").write_text("ROUTES = ['/orders']")
    (shop / "main.py").write_text(API_OF_THE_USER)
    done = installed.run("python", "main.py", within=shop)
    assert (done.stdout, done.stderr) == ("celeriac ['/orders']\n", "")


@pytest.mark.parametrize("command", [("celeriac",), ("python", "-m", "celeriac")], ids=" ".join)
def test_the_commands_take_our_packages(installed: Installed, shop: Path, command: tuple[str, ...]) -> None:
    """The commands use our packages beside a user's modules of the same names."""
    token = ("token", "--organization", "acme", "--user", "u1", "--admin")
    done = installed.run(*command, *token, within=shop, **SETTINGS, CELERIAC_IMPORTS="images", PYTHONPATH=str(shop))
    assert (done.stderr, done.stdout.count(".")) == ("", 2)


@pytest.mark.parametrize("name", ["tasks", "tracking"])
def test_a_module_that_was_imported_first_is_refused_by_its_file(installed: Installed, shop: Path, name: str) -> None:
    """A user's module of our name that was imported first is refused with its file."""
    (shop / f"{name}.py").write_text("from celeriac import app")
    done = installed.run("python", "-c", f"import {name}", within=shop)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: {shop / name}.py has the name of a package that Celeriac needs, {name!r}, "
        "and both cannot be in one process: rename it"
    )


def test_our_tasks_refuse_a_tracking_of_the_user(installed: Installed, shop: Path) -> None:
    """`celery -A tasks` refuses a user's `tracking`; `celery -A celeriac` does not meet it."""
    (shop / "tasks.py").unlink()
    (shop / "tracking.py").write_text("")
    done = installed.run("python", "-m", "celery", "-A", "tasks", "report", within=shop, **SETTINGS)
    refusal = f"ImportError: {shop / 'tracking.py'} has the name of a package that Celeriac needs: rename it"
    assert refusal in done.stderr
    done = installed.run("python", "-m", "celery", "-A", "celeriac", "report", within=shop, **SETTINGS)
    assert "tasks.worker.consumer:Consumer" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["tasks", "api.orders"])
@pytest.mark.parametrize("part", ["worker", "api"])
def test_handlers_in_a_module_of_our_name_are_refused(installed: Installed, shop: Path, name: str, part: str) -> None:
    """CELERIAC_IMPORTS with a module of our name stops the start."""
    done = installed.run("celeriac", part, within=shop, **SETTINGS, CELERIAC_IMPORTS=f"images,{name}")
    top = name.partition(".")[0]
    place = shop / ("tasks.py" if top == "tasks" else "api/__init__.py")
    assert (done.returncode, done.stderr) == (
        2,
        f"celeriac: CELERIAC_IMPORTS: {place} has the name of a package of Celeriac's, {top!r}: rename it\n",
    )


def test_a_worker_runs_jobs_beside_modules_of_our_names(
    installed: Installed, shop: Path, database_url: str, servers: Servers
) -> None:
    """A worker and a producer run in a directory with modules of our names."""
    environment = {
        "DATABASE_URL": database_url,
        "BROKER_URL": f"{servers.valkey_url[:-1]}7",
        "CELERIAC_IMPORTS": "images",
    }
    worker = subprocess.Popen(
        [installed.programs / "python", "-m", "celeriac", "worker", "--concurrency", "1"],
        cwd=shop,
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
    )
    try:
        done = installed.run("python", "-c", SUBMIT, within=shop, **environment)
        assert (done.stdout, done.stderr) == ("42\n", "")
    finally:
        worker.terminate()
        worker.wait(60)


def test_a_new_project_runs(installed: Installed, tmp_path: Path) -> None:
    """With the wheel alone, `celeriac init` writes a project whose tests pass, one of them on a platform of its own."""
    made = installed.run("celeriac", "init", "jobs", within=tmp_path)
    assert made.returncode == 0, made.stderr
    again = installed.run("celeriac", "init", "jobs", within=tmp_path)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    tests = ("python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    ended = installed.run(*tests, within=tmp_path / "jobs", HOME=str(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout
