"""Tracebacks in parts: those of libraries stand back, and put together they are the traceback to the letter."""

from __future__ import annotations

import traceback
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.embedded.failures import own_frames
from tasks.app import import_handlers
from tasks.tracebacks import parts
from tracking.errors import ConfigurationError
from tracking.settings import settings

LIBRARY = "/usr/lib/python3/dist-packages/celery/app/trace.py"
ALL = "\n".join(
    f'  File "{file}", line 3, in run'
    for file in (LIBRARY, "/venv/lib/python3.11/site-packages/kombu/x.py", "/home/me/words.py", LIBRARY)
)


def failed(code: str, outer: str, inner: str) -> str:
    """The traceback of code of one file that one of another file calls."""
    try:
        exec(compile("exec(called, {})", outer, "exec"), {"called": compile(code, inner, "exec")})  # noqa: S102 - ours
    except Exception as error:  # noqa: BLE001 - whatever the test raises
        return "".join(traceback.format_exception(error))
    raise AssertionError(code)


def test_frames_of_libraries_are_parts_of_their_own() -> None:
    """Frames of installed packages are apart from those of the handler, and counted."""
    found = parts(f"Traceback (most recent call last):\n{ALL}\nValueError: no\n  such: File word")
    assert [(part.is_own, part.count) for part in found] == [(True, 0), (False, 2), (True, 1), (False, 1), (True, 0)]
    assert found[-1].text == "ValueError: no\n  such: File word"


def test_a_group_of_exceptions_is_taken_apart_too() -> None:
    """In a group, whose lines have a margin, libraries stand back, and each message is seen."""
    code = "raise ExceptionGroup('two', [ValueError('one'), KeyError('other')])"
    text = failed(code, LIBRARY, "/home/me/words.py")
    found = parts(text)
    seen = "\n".join(part.text for part in found if part.is_own)
    assert LIBRARY not in seen
    for word in ("/home/me/words.py", "ExceptionGroup: two", "ValueError: one", "KeyError: 'other'", "---- 2 ----"):
        assert word in seen
    assert own_frames(text)[-1].startswith("/home/me/words.py:1 in ")


@given(st.lists(st.sampled_from([*ALL.splitlines(), "", "  | ", "  +-+--- 1 ---", "    x()", "Error: x", "é\u2028|"])))
def test_parts_are_the_whole(lines: list[str]) -> None:
    """Whatever a traceback looks like, its parts one after another are its lines, and no two of a kind follow."""
    text = "\n".join(lines)
    found = parts(text)
    assert "\n".join(part.text for part in found) == "\n".join(text.splitlines())
    assert all(one.is_own is not other.is_own for one, other in pairwise(found))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\ndef misspelt(:\n", "SyntaxError: invalid syntax ({name}.py, line 2)"),
        ("x = 1\nimport nothing_there\n", "ModuleNotFoundError: No module named 'nothing_there' ({name}.py, line 2)"),
        ("import json\n\njson.loads('{')\n", "(char 1) ({name}.py, line 3)"),
    ],
)
def test_the_place_of_a_module_that_cannot_be_imported(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of handlers that cannot be imported is named with the line that is its author's, once."""
    name = f"handlers_{uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError) as told:
        import_handlers(settings().model_copy(update={"imports": (name,)}))
    assert str(told.value).startswith(f"CELERIAC_IMPORTS: '{name}' cannot be imported: ")
    assert str(told.value).endswith(said.format(name=name))
    assert str(told.value).count(".py, line") == 1
