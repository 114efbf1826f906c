"""The truth about jobs: knows PostgreSQL, and nothing of Celery or HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracking.ownership import acting_as

__all__ = ["acting_as"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """`acting_as` at its first use: a client of the API, and a command's help, do without the tables."""
        if name == "acting_as":
            from tracking.ownership import acting_as  # noqa: PLC0415 - as the docstring says

            return acting_as
        raise AttributeError(f"module 'tracking' has no attribute {name!r}")
