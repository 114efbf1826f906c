"""How a process ends: the status that its supervisor reads, and the one line that people do."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tracking.db import Outage, cause_of, outage
from tracking.errors import ConfigurationError
from tracking.exit_status import Exit

LONGEST = 300  # characters of what a server says

# SQLSTATE (appendix A of PostgreSQL's manual)
NOT_THERE = frozenset({"3F000", "42P01", "42703", "42883", "42704"})  # schema, table, column, function, type
UNKNOWN_TO_IT = frozenset({"28", "3D"})  # classes: the user, the database
# Refused at the door: without a code of its own, since libpq keeps only the server's sentence about a connection.
REFUSED = re.compile(
    r"password authentication failed|authentication failed|no password supplied|no pg_hba\.conf entry"
    r"|(database|role) \".*\" does not exist|is not permitted to log in|permission denied for database"
    r"|server does not support SSL|certificate verify failed|root certificate file|connection is bad: invalid"
)


class StartError(Exception):
    """A part of the platform did not start. `status`: what this process ends with for it."""

    def __init__(self, message: str, status: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a process cannot go on: the status that says so, and one line that names what is wrong and how to mend it."""

    status: Exit
    line: str


def fault_of(error: BaseException) -> Fault | None:
    """What an error of a start, of a setting or of the database means; None for every other."""
    if isinstance(error, ConfigurationError):
        return Fault(Exit.MISUSED, one_line(str(error)))
    if isinstance(error, StartError):
        return Fault(error.status, one_line(str(error)))
    if isinstance(error, PoolTimeoutError):
        return Fault(Exit.AWAY, f"the database is away: {Outage.BUSY.value}")
    cause = cause_of(error)
    return _fault_of_database(error, cause) if isinstance(cause, psycopg.Error) else None


def one_line(text: str) -> str:
    """What a server says in several lines, in one that is not too long."""
    joined = " ".join(text.split())
    return joined if len(joined) <= LONGEST else f"{joined[:LONGEST]}…"


def _fault_of_database(error: BaseException, cause: psycopg.Error) -> Fault | None:
    said = one_line(cause.diag.message_primary or str(cause))
    code = cause.sqlstate or ""
    if code in NOT_THERE:
        return Fault(Exit.MISUSED, f"the schema is not the newest ({said}): run `celeriac migrate`")
    if _is_refusal(cause, code, said):
        return Fault(Exit.MISUSED, f"DATABASE_URL: {said}")
    found = outage(error)
    return None if found is None else Fault(Exit.AWAY, f"the database is away: {found.value}: {said}")


def _is_refusal(cause: psycopg.Error, code: str, said: str) -> bool:
    if code:
        return code[:2] in UNKNOWN_TO_IT
    return isinstance(cause, psycopg.ProgrammingError) or REFUSED.search(said) is not None
