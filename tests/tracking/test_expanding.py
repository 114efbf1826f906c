"""Migrations only expand, so that the release before works on the schema of the next one, and beside it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracking.versions import MIGRATIONS

SINCE = "0038"  # of the ones before, some do not
LARGE = ("jobs", "history")
# What an older release may still use; raw SQL is looked at by its words.
TAKES_AWAY = {"drop_column", "drop_table", "rename_table"}
WORDS = ("DROP COLUMN", "DROP TABLE", "RENAME ", "SET NOT NULL", " TYPE ")


def migrations() -> list[Path]:
    """Those that have to keep the rule."""
    return sorted(path for path in MIGRATIONS.glob("[0-9]*_*.py") if path.name.partition("_")[0] >= SINCE)


def faults(source: str) -> Iterator[str]:
    """What a migration does when it is done that an older release would notice, or that holds up writers.

    One that says CONTRACTS takes away what no release has used since the one that it names.
    """
    tree = ast.parse(source)
    if any(isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "CONTRACTS" for each in tree.body):
        return
    undone = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == "downgrade"]
    done = [each for part in tree.body if part not in undone for each in ast.walk(part)]
    made = {_first(each) for each in done if _name(each) == "create_table"}
    for call in done:
        said = ast.unparse(call) if isinstance(call, ast.Call) else ""
        if _name(call) in TAKES_AWAY:
            yield f"takes away: {said}"
        if _name(call) == "alter_column" and ("nullable=False" in said or "type_=" in said or "new_column" in said):
            yield f"changes a column: {said}"
        if _name(call) == "add_column" and "nullable=False" in said and "server_default" not in said:
            yield f"a column that an older release does not fill: {said}"
        if _name(call) == "create_index" and not {_table(call)}.isdisjoint(LARGE) and "concurrently=True" not in said:
            yield f"holds up writers: {said}"
        if _name(call) == "execute" and any(word in said.upper() for word in WORDS) and _first(call) not in made:
            yield f"changes a table: {said}"


def _name(node: ast.AST) -> str:
    return node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""


def _first(node: ast.AST) -> str:
    return _argument(node, 0)


def _table(node: ast.AST) -> str:
    return _argument(node, 1)


def _argument(node: ast.AST, place: int) -> str:
    arguments = node.args if isinstance(node, ast.Call) else []
    found = arguments[place] if len(arguments) > place else None
    return str(found.value) if isinstance(found, ast.Constant) else ""


@pytest.mark.parametrize("path", migrations(), ids=lambda path: path.stem)
def test_a_migration_only_expands(path: Path) -> None:
    """A migration takes nothing away that the release before uses, and holds up no writer of a large table."""
    assert list(faults(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        'op.drop_column("jobs", "worker")',
        'op.drop_table("tickets")',
        'op.rename_table("jobs", "work")',
        'op.alter_column("jobs", "worker", nullable=False)',
        'op.alter_column("jobs", "worker", new_column_name="ran_on")',
        'op.add_column("jobs", sa.Column("x", sa.Text, nullable=False))',
        'op.create_index("i", "jobs", ["x"])',
        'op.execute("ALTER TABLE jobs ALTER COLUMN x SET NOT NULL")',
    ],
)
def test_what_an_older_release_would_notice_is_found(line: str) -> None:
    """Each way to take something from an older release is found when it is done, and not when it is undone."""
    assert len(list(faults(f"def upgrade():\n    {line}\n"))) == 1
    assert list(faults(f"def downgrade():\n    {line}\n")) == []
    assert list(faults(f'CONTRACTS = "1.4"\n\n\ndef upgrade():\n    {line}\n')) == []
