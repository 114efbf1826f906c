"""`python -m tracking.rendered`: rendered.sql, the statements of this package as the database gets them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from textwrap import dedent

from sqlalchemy import TextClause

import tracking
from tracking import fingerprints
from tracking.admission import functions
from tracking.sql import PARAMETER, DriverSql

FILE = Path(__file__).with_name("rendered.sql")
HEAD = """\
-- What the database gets of tracking/: its functions, and every statement that is written as text, by module and name.
-- Made by `make sql`. A parameter is a variable of psql: \\set id 019aa0f3-7c1e-7d5a-9f57-3a1f6a0c9d11
"""
STATEMENT = re.compile(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE)\b")


def statements() -> Iterator[tuple[str, str]]:
    """Each statement by its name, such as "jobs/claim.py CLAIM"; its parameters are written `:name`."""
    for name, value in named():
        if STATEMENT.match(sql := _readable(value)):
            yield name, sql


def named() -> Iterator[tuple[str, TextClause | DriverSql]]:
    """Each text of SQL in this package by its name, as it is executed."""
    for found in walk_packages(tracking.__path__, "tracking."):
        if ".migrations" not in found.name and found.name != __name__:
            place = found.name.removeprefix("tracking.").replace(".", "/") + ".py"
            for name, value in vars(import_module(found.name)).items():
                if isinstance(value, TextClause | DriverSql):
                    yield f"{place} {name}", value


def rendered() -> str:
    """The text of rendered.sql."""
    texts = [_laid_out(sql) for sql in (*functions.FUNCTIONS, *fingerprints.FUNCTIONS)]
    texts += [f"-- {name}\n" + PARAMETER.sub(r":'\1'", _laid_out(sql)) for name, sql in statements()]
    return "\n".join([HEAD, *(f"{text};\n" for text in texts)])


def _readable(value: TextClause | DriverSql) -> str:
    return re.sub(r"%\((\w+)\)s", r":\1", value) if isinstance(value, str) else value.text


def _laid_out(sql: str) -> str:
    lines = dedent(sql).strip().splitlines()
    return "\n".join(line.rstrip() for line in lines if line.strip())


if __name__ == "__main__":
    FILE.write_text(rendered(), encoding="utf-8")
