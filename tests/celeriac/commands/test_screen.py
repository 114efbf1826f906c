"""What commands print of texts that jobs have chosen: programs read it by lines, and a terminal obeys none of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.client.answers import Answer
from celeriac.commands.screen import CONTROL, Screen, clean, clean_lines, in_a_line, plain

TEXTS = st.text(st.sampled_from('a"\\\n\r\x0b\x0c\x1c\x1d\x1e\x85\x9b\x7f\u2028\u2029\u202e\u2066é🎉'), max_size=6)
VALUES = st.recursive(TEXTS | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner))


class Said(Answer):
    """An answer with anything in it."""

    said: Any


@given(VALUES)
def test_json_is_one_line_and_the_same_value(value: Any) -> None:
    """An answer as JSON is one line however a program finds the ends of lines, and the value that it was."""
    line = in_a_line(json.dumps(value, ensure_ascii=False))
    assert line.splitlines() == [line]
    assert not CONTROL.search(line)
    assert json.loads(line) == value


@given(TEXTS)
def test_a_line_stays_one(text: str) -> None:
    """A text in a line of a list, or a sentence, is in one line for whoever reads lines; one in lines keeps these."""
    for line in (clean(text), plain(text), *clean_lines(text).split("\n")):
        assert len(line.splitlines()) <= 1
        assert not CONTROL.search(line)


def test_answers_are_printed_so(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json an answer is printed in one line, also when a job has a line separator in its payload."""
    Screen(as_json=True).json(Said(said="one\u2028two\x9b"))
    printed = capsys.readouterr().out
    assert printed == '{"said":"one\\u2028two\\u009b"}\n'
