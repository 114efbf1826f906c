"""Payloads hold ids and filters, never money: amounts are read where they are kept, when the job runs.

A payload is copied to the broker, the history and the dashboard, and a retry sends it again unchanged, so an amount in
it would be out of date and in sight of people who may not see it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import model_validator

from tasks.payloads import BaseModel
from tracking.values import MAX_DEPTH

# fmt: off
MONETARY_WORDS = frozenset({
    "amount", "amounts", "balance", "cost", "costs", "currency", "discount", "fee", "fees", "money", "price", "prices",
    "salary", "subtotal", "tax", "taxes", "total", "totals", "vat",
})
# fmt: on
SHORT = 64  # characters of a key whose answer is kept: the objects of a list repeat theirs


class PayloadWithoutMoney(BaseModel):
    """A payload that is refused when a key names a monetary value or a text holds one, at any depth."""

    @model_validator(mode="before")
    @classmethod
    def refuse_money(cls, value: Any) -> Any:
        """The payload as it came. Raises ValueError, which pydantic turns into a validation error with the place."""
        place = find_money(value)
        if place is not None:
            raise ValueError(f"{place} is a monetary value: a payload holds ids and filters, never money")
        return value


def names_money(key: str) -> bool:
    """Whether a key (snake_case or camelCase) names a monetary value; what ends in id or ids is an id."""
    return _short_names_money(key) if len(key) <= SHORT else _names_money(key)


def find_money(value: Any, place: str = "", depth: int = MAX_DEPTH) -> str | None:
    """Where in a JSON value the first monetary value is, as `data.items.0.price`; None when there is none.

    What is nested deeper than a payload may be is not looked at.
    """
    if isinstance(value, str):
        return place if _SIGN_AND_NUMBER.search(value) else None
    if depth == 0 or not isinstance(value, Mapping | list | tuple):
        return None
    for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
        inner = f"{place}.{key}" if place else str(key)
        found = inner if names_money(str(key)) else find_money(item, inner, depth - 1)
        if found is not None:
            return found
    return None


_SIGN_AND_NUMBER = re.compile(r"[$€£¥₹]\s?\d|\d\s?[€£¥₹]|\b(?:USD|EUR|GBP|CHF|JPY)\s?\d|\d\s?(?:USD|EUR|GBP|CHF|JPY)\b")


def _names_money(key: str) -> bool:
    words = re.sub(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", key).lower().split()
    return not MONETARY_WORDS.isdisjoint(words) and words[-1] not in ("id", "ids")


_short_names_money = lru_cache(maxsize=4096)(_names_money)
