"""Which errors of the database are outages, which may pass, and of what kind: one list for every process."""

from __future__ import annotations

from enum import Enum

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

LINK_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError)


class Outage(Enum):
    """Why the database cannot do now what it may do later."""

    AWAY = "it cannot be reached"
    BUSY = "it has no connection, lock or resource to spare"
    FULL = "its disk is full"
    READ_ONLY = "it takes no writes"
    UNGRANTED = "a role of the platform lacks a right in it: `celeriac migrate` grants it"
    TOO_SLOW = "a statement has run into its time limit"


# PostgreSQL's error codes (its manual, appendix A) that pass by themselves, and their classes: connection, system, end
# of a session by its operator; rollback, resources. A right that a role lacks is one too: it ends with a GRANT.
LACKING = "42501"
REFUSES_ROWS = "ExecWithCheckOptions"  # the function of PostgreSQL that raises it, in every language
CODES = {
    "57014": Outage.TOO_SLOW,
    "25006": Outage.READ_ONLY,
    LACKING: Outage.UNGRANTED,
    "25P03": Outage.AWAY,
    "25P04": Outage.AWAY,
    "53100": Outage.FULL,
    "55P03": Outage.BUSY,
}
CLASSES = {"08": Outage.AWAY, "57": Outage.AWAY, "58": Outage.AWAY, "40": Outage.BUSY, "53": Outage.BUSY}


def outage(error: BaseException) -> Outage | None:
    """Which outage of the database an error of SQLAlchemy or of the driver shows; None: it is a refusal, or a defect.

    An error without a code comes from the driver: a broken link, or a value that it cannot send, which never passes.
    """
    if isinstance(error, PoolTimeoutError):
        return Outage.BUSY
    cause = cause_of(error)
    if not isinstance(cause, psycopg.Error):
        return None
    code = cause.sqlstate or ""
    known = CODES.get(code) or CLASSES.get(code[:2])
    if known is Outage.UNGRANTED:
        return _lacking(cause)
    is_broken = isinstance(error, DBAPIError) and error.connection_invalidated
    if known is None and (is_broken or (not code and isinstance(cause, LINK_ERRORS))):
        return Outage.AWAY
    return known


def _lacking(error: psycopg.Error) -> Outage | None:
    if error.diag.source_function == REFUSES_ROWS:  # a row that row-level security refuses: our defect
        return None
    return Outage.READ_ONLY if getattr(error, "stops_writes", False) else Outage.UNGRANTED


def is_away(error: BaseException) -> bool:
    """Whether the same call may succeed later without being any smaller: every outage but a statement that is slow."""
    return outage(error) not in (None, Outage.TOO_SLOW)


def is_too_slow(error: BaseException) -> bool:
    """Whether the database ended a statement that took longer than its time limit."""
    return outage(error) is Outage.TOO_SLOW


def is_locked(error: DBAPIError) -> bool:
    """Whether a statement did not get a lock within its time: another one may."""
    return isinstance(error.orig, psycopg.errors.LockNotAvailable)


def cause_of(error: BaseException) -> BaseException:
    """The driver's error within one of SQLAlchemy's; every other one itself."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def said_by(error: BaseException) -> str | None:
    """What the database says in an error of the driver's, without its details, which quote values; None: it is none."""
    return error.diag.message_primary if isinstance(error, psycopg.Error) else None
