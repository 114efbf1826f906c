"""What is printed becomes log lines: all of it, in its order, whatever the pieces."""

from __future__ import annotations

import io
import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.prints import LONGEST, Prints, unlogged


class Told(logging.Handler):
    """A handler that keeps what it is told; `printing` is where it prints to, as logging does when it cannot write."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.printing: Prints | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        self.lines.append(record.getMessage())
        if self.printing is not None:
            self.printing.write("logging error\n")


def printing() -> tuple[Prints, Told, io.StringIO]:
    """A stream whose lines are logged, what was, and the stream itself."""
    log, told, stream = logging.getLogger("tests.prints"), Told(), io.StringIO()
    log.handlers, log.propagate = [told], False
    log.setLevel(logging.INFO)
    return Prints(stream, log, logging.INFO), told, stream


@given(st.text(alphabet="ab \n%{"), st.lists(st.integers(0, 20)))
def test_lines_are_the_same_whatever_the_pieces(text: str, cuts: list[int]) -> None:
    """Each line that is not blank is logged once, in its order, however it comes; nothing goes to the stream."""
    prints, told, stream = printing()
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    prints.writelines(text[begin:end] for begin, end in zip(places, [*places[1:], len(text)], strict=True))
    prints.flush()
    assert told.lines == [line for line in text.split("\n") if line.strip()]
    assert stream.getvalue() == ""


def test_threads_have_lines_of_their_own() -> None:
    """What one thread has begun is not continued by another one."""
    prints, told, _ = printing()
    prints.write("begun ")
    other = threading.Thread(target=prints.write, args=("other\n",))
    other.start()
    other.join()
    prints.write("ended\n")
    assert told.lines == ["other", "begun ended"]


def test_a_log_that_cannot_write_says_so_on_the_stream() -> None:
    """What logging itself prints does not come back to it."""
    prints, told, stream = printing()
    told.printing = prints
    prints.write("one\n")
    assert (told.lines, stream.getvalue()) == (["one"], "logging error\n")


def test_all_else_is_that_of_the_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """A stream whose prints are logged keeps its encoding and its file, and is found again."""
    prints, _, stream = printing()
    assert (prints.encoding, prints.isatty(), unlogged(prints)) == (stream.encoding, False, stream)  # type: ignore[arg-type]  # it stands for one
    assert unlogged(stream) is stream


def test_a_line_that_never_ends_is_logged_in_parts() -> None:
    """Dots that tell progress do not collect in memory, nor wait for an end that does not come."""
    prints, told, _ = printing()
    for _ in range(2 * LONGEST + 10):
        prints.write(".")
    assert [len(line) for line in told.lines] == [LONGEST + 1, LONGEST + 1]
