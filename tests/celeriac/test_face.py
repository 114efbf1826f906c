"""`from celeriac import ...`: the one way in for those who write handlers and producers."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

import celeriac
from celeriac import handlers, packages
from tasks.app import HANDLERS

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools" / "bin"

HANDLER = """
from decimal import Decimal

from celeriac import BaseModel, Job, acting_as, app


class Resize(BaseModel):
    path: str
    width: int = 800


@app.task(bind=True, pydantic=True, name="resize", permission="images.resize", max_retries=3)
def resize(self: Job, payload: Resize) -> dict[str, int]:
    with self.step("Read", 1, of=2):
        self.progress(10, "reading")
    assert self.still_mine()
    return {"width": payload.width}


@app.task(name="add_up", public=True)
def add_up(x: int, y: int = 1) -> int:
    return x + y
"""
CALL = """
with acting_as("acme", "u1"):
    assert resize(Resize(path="a.png")) == {"width": 800}
assert add_up(2) == 3
print("called")
"""
# Each of them stops whoever reads the settings.
WRONG = {"DATABASE_URL": "mysql://nowhere", "BROKER_URL": "kafka://nowhere", "CELERIAC_NONSENSE": "1"}


def python(
    *arguments: str, within: Path, program: str | Path = sys.executable, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python with this environment alone, in this directory, which comes first on its path."""
    return subprocess.run(
        [program, *arguments],
        cwd=within,
        env=environment or {},
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )


def test_every_name_can_be_imported() -> None:
    """Every name that `celeriac` announces can be imported, and no other has a place."""
    assert sorted(name for names in celeriac.PLACES.values() for name in names) == sorted(celeriac.__all__)
    assert set(handlers.__all__) >= {*HANDLERS}
    for name in celeriac.__all__:
        assert getattr(celeriac, name).__module__.startswith(("tasks", "tracking")), name
    assert set(celeriac.__all__) <= set(dir(celeriac))
    with pytest.raises(AttributeError, match="module 'celeriac' has no attribute 'nonsense'"):
        celeriac.nonsense  # type: ignore[attr-defined]  # noqa: B018 - the access is the test


def test_the_import_alone_loads_nothing_of_the_platform(tmp_path: Path) -> None:
    """`import celeriac` loads neither Celery nor SQLAlchemy."""
    code = "import sys, celeriac; print({'tasks', 'tracking', 'celery', 'sqlalchemy', 'pydantic'} & set(sys.modules))"
    done = python("-c", code, within=tmp_path)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("environment", [{}, WRONG], ids=["empty", "wrong"])
def test_a_handler_is_declared_and_called_without_any_server_or_setting(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """A handler can be declared and called without servers, settings or a writable directory."""
    (tmp_path / "test_resize.py").write_text(HANDLER + CALL)
    tmp_path.chmod(0o555)
    done = python("-B", "test_resize.py", within=tmp_path, environment=environment)
    assert (done.stdout, done.stderr, done.returncode) == ("called\n", "", 0)
    assert os.listdir(tmp_path) == ["test_resize.py"]  # noqa: PTH208 - names


def test_a_handlers_module_is_typed(tmp_path: Path) -> None:
    """mypy, strict, sees the types of a handler's payload, result and `self`, and finds no fault of ours."""
    module = tmp_path / "images.py"
    wrong = textwrap.dedent("""
        add_up("a")
        resize(Resize(path="a.png")).keys()


        @app.task(bind=True, name="odd")
        def odd(self: Job) -> None:
            self.progress("half")


        from celeriac import nonsense
    """)
    module.write_text(HANDLER + wrong)
    options = ("--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary")  # with the cache of `make check`
    done = python("-m", "mypy", *options, str(module), within=ROOT)
    assert [line.partition("error: ")[2].split("  ")[-1] for line in done.stdout.splitlines()] == [
        "[arg-type]",
        "[arg-type]",
        "[attr-defined]",
    ], done.stdout + done.stderr


@pytest.mark.parametrize("name", packages.NEEDED)
def test_another_module_of_the_name_is_refused_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign module of one of our names is refused in one line that names its file."""
    other = ModuleType(name)
    other.__file__ = f"/srv/shop/{name}.py"
    monkeypatch.setitem(sys.modules, name, other)
    with pytest.raises(ImportError) as refused:
        packages.claim(name)
    assert str(refused.value) == (
        f"/srv/shop/{name}.py has the name of a package that Celeriac needs, {name!r}, "
        "and both cannot be in one process: rename it"
    )
