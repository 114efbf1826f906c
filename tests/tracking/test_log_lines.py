"""Log lines that are written together: all of them, in their order, and nobody else's."""

from __future__ import annotations

import threading

import pytest

from tracking import logs
from tracking.logs import written_together


class Writes:
    """A stream that keeps each write."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    def write(self, text: str) -> None:
        self.writes.append(text)

    def flush(self) -> None:
        """It is there."""


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Writes:
    """Where lines go."""
    stream = Writes()
    monkeypatch.setattr(logs._Lines, "stream", stream)
    return stream


def test_lines_are_written_in_one_call(stream: Writes) -> None:
    """What a thread logs within goes out at the end, in its order; before and after, line by line."""
    lines = logs._Lines()
    lines.msg("before")
    with written_together():
        lines.msg("one")
        lines.msg("two")
        assert stream.writes == ["before\n"]
    lines.msg("after")
    assert stream.writes == ["before\n", "one\ntwo\n", "after\n"]


def test_lines_are_written_whatever_comes_between(stream: Writes) -> None:
    """An error loses no line, and the next ones are written by themselves again."""
    lines = logs._Lines()

    def fail() -> None:
        with written_together():
            lines.msg("one")
            raise ValueError("between")

    with pytest.raises(ValueError, match="between"):
        fail()
    lines.msg("two")
    assert stream.writes == ["one\n", "two\n"]


def test_lines_of_other_threads_do_not_wait(stream: Writes) -> None:
    """Another thread's line is written at once."""
    lines = logs._Lines()
    with written_together():
        lines.msg("one")
        other = threading.Thread(target=lines.msg, args=("other",))
        other.start()
        other.join(20)
        assert stream.writes == ["other\n"]
    assert stream.writes == ["other\n", "one\n"]
