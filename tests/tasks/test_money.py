"""Monetary values are found in any payload, by the names of its members and by what its texts say."""

from __future__ import annotations

import json

import pytest

from tasks.money import find_money, names_money


@pytest.mark.parametrize(
    "key", ["amount", "totalPrice", "total_price", "PRICE", "unit-price", "amountInCents", "VATRate", "price.value"]
)
def test_keys_that_name_money_are_known(key: str) -> None:
    """A key that names money is found in any spelling."""
    assert names_money(key)


@pytest.mark.parametrize("key", ["priceId", "cost_ids", "pricey", "reportType", "accosted", "id", ""])
def test_ids_and_other_words_are_no_money(key: str) -> None:
    """A key that ends in id, or has other words, names no money."""
    assert not names_money(key)


def test_the_place_of_a_monetary_value_is_told() -> None:
    """The place of a monetary value in a payload is told."""
    assert find_money({"data": {"items": [{"id": 1}, {"unitPrice": 5}]}}) == "data.items.1.unitPrice"
    assert find_money({"note": "costs $5"}) == "note"
    assert find_money(json.loads("[" * 900 + '{"price": 1}' + "]" * 900)) is None  # too deep for any payload
    assert find_money({"note": "5 days, USDA approved, A$AP"}) is None
