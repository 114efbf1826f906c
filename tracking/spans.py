"""Times as settings and commands have them: 30m, 1h, 7d."""

from __future__ import annotations

import re
from datetime import timedelta

UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def span_of(text: str) -> timedelta | None:
    """The time that a text like 30m, 1h or 7d means; None for every other text, and for no time at all."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    return int(match[1]) * UNITS[match[2]] or None if match else None


def time_of_type(part: str) -> tuple[str, timedelta]:
    """`export_report=7d` → ("export_report", 7 days). Raises ValueError."""
    match = re.fullmatch(r"([^=\s]+)\s*=\s*([0-9]{1,5}[smhd])", part)
    span = span_of(match[2]) if match else None
    if match is None or span is None:
        raise ValueError(f"{part!r} is not like export_report=7d, with s, m, h or d")
    return match[1], span
