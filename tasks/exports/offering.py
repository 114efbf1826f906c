"""Which of the shipped reports are available: asked of their database at the first need, never at an import."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import psycopg
import structlog

from tasks.exports.reportfile import ORGANIZATION, Report
from tasks.exports.reporting import SHIPPED, Row, catalogue, connected
from tracking.settings import Settings, settings

log = structlog.get_logger(__name__)

PATIENCE = 1.0  # seconds that a caller waits for the answer; without one, nothing is known to be missing
KNOWN_FOR = 60.0  # seconds that an answer holds,
FAILED_FOR = 10.0  # and that there was none
# The class of SQLSTATE for what is not there or must not be read (appendix A of the manual)
UNKNOWN_OR_FORBIDDEN = "42"


def unavailable() -> Mapping[str, str]:
    """Why reports cannot be had, by name: shipped ones whose tables the database of CELERIAC_REPORTS_URL does not have.

    Takes PATIENCE at most, also while that database is silent.
    """
    configured = settings()  # of this process: payloads are checked against the answer, see `catalogue`
    if not configured.reports_url.get_secret_value():  # the platform's own: it has them, and may not be known yet
        return {}
    own = configured.reports
    return {} if own == configured.database else _offer_of(own).missing(configured)


class _Offer:
    """What the reports' database lacks. One thread asks for all callers; its last answer holds until the next one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._asked_until = float("-inf")
        self._missing: Mapping[str, str] = {}

    def missing(self, configured: Settings) -> Mapping[str, str]:
        """The reasons, by the names of reports."""
        with self._lock:
            if time.monotonic() >= self._asked_until:
                self._asked_until = float("inf")
                self._answered.clear()
                threading.Thread(target=self._ask, args=(configured,), name="offer-of-reports", daemon=True).start()
        self._answered.wait(PATIENCE)
        return self._missing

    def _ask(self, configured: Settings) -> None:
        holds = FAILED_FOR
        try:
            self._missing, holds = _lacking(configured), KNOWN_FOR
        except psycopg.Error as error:
            log.warning("reports.offer_unknown", error=type(error).__name__)
        finally:
            self._asked_until = time.monotonic() + holds
            self._answered.set()


def _lacking(configured: Settings) -> Mapping[str, str]:
    missing = {}
    with connected(configured, PATIENCE) as connection:
        for path in sorted(SHIPPED.glob("*.sql")):
            reason = _lack(connection, catalogue()[path.stem])
            if reason:
                missing[path.stem] = f"the report {path.stem} is not offered by CELERIAC_REPORTS_URL: {reason}"
    return missing


def _lack(connection: psycopg.Connection[Row], report: Report) -> str | None:
    """What the report needs and the database does not have, or does not show to us; it is planned, not run."""
    values: dict[str, Any] = dict.fromkeys((parameter.name for parameter in report.parameters), None)
    try:
        with connection.transaction():
            connection.execute(b"EXPLAIN " + report.sql.encode(), {**values, ORGANIZATION: ""})
    except psycopg.errors.DatabaseError as error:
        if (error.sqlstate or "").startswith(UNKNOWN_OR_FORBIDDEN):
            return error.diag.message_primary
        raise
    return None


@lru_cache(maxsize=4)
def _offer_of(_url: str) -> _Offer:
    return _Offer()


os.register_at_fork(after_in_child=_offer_of.cache_clear)  # a thread that asks does not exist in the child
