"""Dead letters in the database, and the command that shows them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from celeriac.commands import letters
from celeriac.commands.letters import dumped, escaped
from tasks.worker import dead_letters as setting_aside
from tests.commands import Ended, run
from tests.handling import workplace
from tests.properties import ON_ONE_DATABASE
from tracking import dead_letters
from tracking.db import Database
from tracking.dead_letters import DeadLetter, NewDeadLetter

ESCAPE = "\x1b[2J"


def _keep(database: Database, **details: Any) -> DeadLetter:
    letter = NewDeadLetter(uuid4(), "default", "worker-1", details.pop("reason", "unreadable"), **details)
    with database.autocommit() as connection:
        dead_letters.keep(connection, letter)
        return dead_letters.newest(connection, 1)[0]


def _command(database_url: str, *arguments: str) -> Ended:
    return run("dead-letters", *arguments, DATABASE_URL=database_url)


def test_a_letter_comes_back_as_it_was_kept(database: Database) -> None:
    """A dead letter comes back as it was kept, with a number and the database's time."""
    kept = _keep(
        database, task_name="noop", task_id="1", content_type="text/x", headers={"a": 1}, body=b"\x00\xff", size=2
    )
    with database.autocommit() as connection:
        assert dead_letters.find(connection, kept.id) == kept
    assert (kept.task_name, kept.headers, kept.body, kept.size) == ("noop", {"a": 1}, b"\x00\xff", 2)
    assert kept.at.tzinfo is not None


def test_the_same_receipt_is_the_same_letter(database: Database) -> None:
    """Keeping a dead letter again with the same receipt changes nothing."""
    letter = NewDeadLetter(uuid4(), "default", "worker-1", "unreadable")
    with database.autocommit() as connection:
        dead_letters.keep(connection, letter)
        dead_letters.keep(connection, letter)
        assert dead_letters.count(connection) == 1


def test_letters_are_listed_newest_first(database: Database) -> None:
    """Dead letters are listed newest first, as many as asked for."""
    ids = [_keep(database).id for _ in range(3)]
    with database.autocommit() as connection:
        assert [letter.id for letter in dead_letters.newest(connection, 2)] == [ids[2], ids[1]]


def test_there_is_none_of_an_unknown_number(database: Database) -> None:
    """An unknown number finds no dead letter."""
    with database.autocommit() as connection:
        assert dead_letters.find(connection, 2**62) is None


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=5,
)


@given(
    headers=st.dictionaries(st.text(max_size=300), HOSTILE, max_size=60),
    text=st.text(max_size=400),
    body=st.binary(max_size=200),
)
@ON_ONE_DATABASE
def test_whatever_a_message_says_can_be_kept(
    database: Database, headers: dict[str, Any], text: str, body: bytes
) -> None:
    """Any content of a message can be kept as a dead letter, bounded."""
    kept = _keep(database, reason=text, task_name=text, task_id=text, content_type=text, headers=headers, body=body)
    assert kept.body == body
    assert len(kept.headers) <= dead_letters.HEADERS
    assert len((kept.task_name or "").encode()) <= dead_letters.NAME_BYTES


def test_a_long_body_and_long_headers_are_cut(database: Database) -> None:
    """A dead letter keeps 64 KiB of a body and 1 KiB of a header."""
    kept = _keep(database, headers={"x": "y" * 5000, "n": 10**400}, body=bytes(100_000), size=100_000)
    assert (len(kept.body or b""), kept.size) == (dead_letters.BODY_BYTES, 100_000)
    assert len(kept.headers["x"]) <= dead_letters.HEADER_BYTES
    assert kept.headers["n"] == "(int)"


@pytest.mark.parametrize(("waiting", "body"), [(0, b"x"), (setting_aside.BODIES_WAITING, None)])
def test_bodies_are_not_kept_in_memory_without_end(waiting: int, body: bytes | None) -> None:
    """During an outage dead letters beyond a bound are kept without their bodies."""
    platform: Any = SimpleNamespace(recorder=SimpleNamespace(backlog=waiting))
    message = SimpleNamespace(headers={}, delivery_info={}, body=b"x", content_type="text/x")
    letter = setting_aside._letter(platform, message, "unreadable", "worker-1")
    assert (letter.body, letter.size) == (body, 1)


def test_the_command_lists_them_in_plain_lines_when_piped(database: Database, database_url: str) -> None:
    """`celeriac dead-letters` prints one tab-separated line each when piped."""
    _keep(database, task_name="old")
    _keep(database, task_name="noop", task_id="7", reason="its body is not JSON")
    done = _command(database_url, "--limit", "1")
    assert (done.status, done.err) == (0, "")
    [line] = done.out.splitlines()
    assert line.split("\t")[2:] == ["default", "noop", "7", "its body is not JSON"]


def test_the_command_shows_one_with_its_body(database: Database, database_url: str) -> None:
    """`celeriac dead-letters --show` prints all that is known of one."""
    kept = _keep(database, headers={"lang": "py"}, body=b'{"a":\n1}', size=100_000, content_type="application/json")
    done = _command(database_url, "--show", str(kept.id))
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert 'header:      lang = "py"' in lines
    assert "content:     application/json, 100000 bytes" in lines
    assert lines[-3:] == ['{"a":', "1}", "(cut: 8 of 100000 bytes)"]


def test_an_unknown_number_is_one_line(database_url: str) -> None:
    """`celeriac dead-letters --show` with an unknown number is one line and status 2."""
    done = _command(database_url, "--show", "99")
    assert (done.status, done.out) == (2, "")
    assert "There is no dead letter 99" in done.err


def test_a_database_that_is_away_is_one_line() -> None:
    """`celeriac dead-letters` without a database is one line and status 3."""
    done = _command("postgresql://postgres@127.0.0.1:1/none")
    assert done.status == 3
    assert done.err.startswith("celeriac: the database is away: ")
    assert done.err.count("\n") == 1


TERMINAL = {"TTY_COMPATIBLE": "1", "NO_COLOR": "1", "COLUMNS": "120"}  # what rich believes more than the stream


def test_a_terminal_gets_a_table(database: Database, database_url: str, tmp_path: Path, capsys: Any) -> None:
    """`celeriac dead-letters` shows a table on a terminal, and how to see a body."""
    kept = _keep(database, reason=f"[red]{ESCAPE}", task_name="noop")
    with workplace(database_url, tmp_path, **TERMINAL):
        letters.print_newest(20)
    shown = capsys.readouterr().out
    assert "┃" in shown
    assert "[red]\\x1b[2J" in shown
    assert f"celeriac dead-letters --show {kept.id}" in shown


def test_a_terminal_is_told_that_there_is_none(database_url: str, tmp_path: Path, capsys: Any) -> None:
    """`celeriac dead-letters` says on a terminal that there are none."""
    with workplace(database_url, tmp_path, **TERMINAL):
        letters.print_newest(20)
    assert capsys.readouterr().out == "No message was set aside.\n"


def test_a_body_that_was_not_kept_is_said_so(
    database: Database, database_url: str, tmp_path: Path, capsys: Any
) -> None:
    """`celeriac dead-letters --show` says when a body was not kept."""
    kept = _keep(database, size=5)
    with workplace(database_url, tmp_path):
        letters.print_letter(kept.id)
    assert capsys.readouterr().out.splitlines()[-1] == "(the body was not kept)"


def test_a_database_without_the_table_says_what_to_do(database: Database, database_url: str) -> None:
    """`celeriac dead-letters` on an older schema names `celeriac migrate`."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("DROP TABLE dead_letters")
    done = _command(database_url)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "celeriac migrate" in done.err


@given(text=st.text())
def test_nothing_that_is_shown_moves_the_cursor(text: str) -> None:
    """`celeriac dead-letters` escapes what could move the cursor."""
    assert escaped(text).isprintable()


def test_a_body_that_is_no_text_is_shown_in_hexadecimal() -> None:
    """`celeriac dead-letters --show` prints a binary body in hexadecimal."""
    first, second = dumped(b"\xffabcdefghijklmnopq")
    assert first == "000000  ff 61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e 6f  .abcdefghijklmno"
    assert second.split() == ["000010", "70", "71", "pq"]


def test_old_letters_are_forgotten(database: Database) -> None:
    """Dead letters older than the given age are deleted, and no others."""
    old = _keep(database)
    with database.autocommit() as connection:
        connection.execute(text("UPDATE dead_letters SET at = at - interval '91 days' WHERE id = :id"), {"id": old.id})
    new = _keep(database)
    with database.autocommit() as connection:
        assert dead_letters.forget(connection, timedelta(days=90)) == 1
        assert [letter.id for letter in dead_letters.newest(connection, 10)] == [new.id]
