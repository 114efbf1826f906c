"""What a JSON value may be, and how text is made to fit."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.properties import UNHURRIED
from tracking.errors import InvalidValue
from tracking.values import MAX_BYTES, MAX_DEPTH, MAX_INTEGER, bounded, check_json, check_text, read_json

ANY_TEXT = st.text(st.characters(), max_size=300)  # lone surrogates and NUL among it
STORABLE = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | STORABLE
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STORABLE, inner, max_size=4),
    max_leaves=20,
)
WRONG = st.one_of(
    st.integers(min_value=MAX_INTEGER + 1),
    st.integers(max_value=-MAX_INTEGER - 1),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), "a\x00b", "\ud800", "x\udfff"]),
    st.sampled_from([b"bytes", {1, 2}, object(), {1: "a key that is no text"}, {"\x00": 1}, {"\ud800": 1}]),
)


def _nested(levels: int, inside: Any, *, in_lists: bool) -> Any:
    for _ in range(levels):
        inside = [inside] if in_lists else {"a": inside}
    return inside


@UNHURRIED
@given(JSON)
def test_json_within_the_limits_is_returned_unchanged(value: Any) -> None:
    """JSON within the limits is returned as the very same value."""
    assert check_json(value, "payload") is value


@UNHURRIED
@given(WRONG, st.integers(0, MAX_DEPTH - 1), st.booleans())
def test_a_wrong_value_is_found_at_any_depth(wrong: Any, levels: int, in_lists: bool) -> None:  # noqa: FBT001 - drawn
    """A wrong value is found at any depth, and the error names its place."""
    place = "payload" + ("[0]" if in_lists else ".a") * levels
    with pytest.raises(InvalidValue) as refused:
        check_json(_nested(levels, wrong, in_lists=in_lists), "payload")
    assert place[:200] in str(refused.value)


@pytest.mark.parametrize("in_lists", [True, False])
def test_json_may_be_32_levels_deep_and_no_deeper(in_lists: bool) -> None:  # noqa: FBT001 - a parameter
    """JSON may be 32 levels deep, of objects and lists alike."""
    check_json(_nested(MAX_DEPTH, 1, in_lists=in_lists), "payload")
    with pytest.raises(InvalidValue, match="nested deeper than 32 levels"):
        check_json(_nested(MAX_DEPTH + 1, 1, in_lists=in_lists), "payload")


@pytest.mark.parametrize(
    "value",
    [
        *("a text of \\u0000", "1234567890123456789", 0.12345678901234568, MAX_INTEGER, -MAX_INTEGER),
        *((1, "a"), OrderedDict(a=OrderedDict(b=[1])), [HTTPStatus.OK, True], {}),
    ],
    ids=str,
)
def test_what_only_looks_wrong_is_let_in(value: Any) -> None:
    """Valid JSON that the quick check doubts is accepted."""
    assert check_json({"a": [value]}, "payload") == {"a": [value]}


def test_json_of_any_depth_is_refused_without_a_recursion_error() -> None:
    """JSON nested a hundred thousand levels deep is refused without a RecursionError."""
    with pytest.raises(InvalidValue, match="nested deeper"):
        check_json(_nested(100_000, 1, in_lists=True), "payload")


@pytest.mark.parametrize("character", ["a", "é", "€", "😀", '"', "\n"])
def test_the_size_is_that_of_the_utf8_text(character: str) -> None:
    """The size of JSON is that of its UTF-8 text to the byte."""
    step = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    full = character * ((MAX_BYTES - 2) // step)
    check_json(full, "payload")
    with pytest.raises(InvalidValue, match=f"at most {MAX_BYTES} are allowed"):
        check_json(full + character, "payload")


@UNHURRIED
@given(JSON, st.integers(0, 200))
def test_a_smaller_limit_of_size_can_be_asked_for(value: Any, limit: int) -> None:
    """A smaller limit refuses exactly what is longer."""
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    assume(re.search("e[+-][0-9]{3}", str(value)) is None)  # which counts with all its digits
    if size <= limit:
        assert check_json(value, "result", max_bytes=limit) is value
    else:
        with pytest.raises(InvalidValue, match=f"result is {size} bytes of JSON"):
            check_json(value, "result", max_bytes=limit)


@UNHURRIED
@given(JSON)
def test_what_the_database_writes_of_json_is_read_as_what_was_sent(value: Any) -> None:
    """A number comes back as it was sent, also when PostgreSQL writes all of its digits, without an exponent."""
    spelled = json.dumps(value, default=str)
    written = re.sub(r"(?<=[\[:, ])-?[0-9.]+e[+-][0-9]+(?=[\],}]|$)", lambda found: f"{Decimal(found[0]):f}", spelled)
    assert read_json(written.encode()) == read_json(written) == value
    assert repr(read_json(written)) == repr(json.loads(spelled))


def test_digits_that_the_database_writes_out_count_as_bytes() -> None:
    """A payload of 256 KiB that would be 13 MiB where it is kept is refused, and text that looks like one is not."""
    with pytest.raises(InvalidValue, match="at most 262144"):
        check_json({"a": [1e300] * 2_000}, "payload")
    check_json({"a": [1e300] * 500, "b": ['"[1e+300]\\'] * 2_000, "c": [1e-07] * 9_000}, "payload")


@UNHURRIED
@given(ANY_TEXT)
def test_text_passes_when_postgresql_can_hold_it(text: str) -> None:
    """Text passes unless it has a NUL or a lone surrogate."""
    storable = "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
    if storable:
        assert check_text(text, "message") is text
    else:
        with pytest.raises(InvalidValue, match=r"^message contains a"):
            check_text(text, "message")


@UNHURRIED
@given(ANY_TEXT, st.integers(0, 400))
def test_bounded_text_fits_and_can_be_stored(text: str, limit: int) -> None:
    """Bounded text fits the limit and can be stored."""
    result = bounded(text, limit)
    assert len(result.encode()) <= limit
    assert check_text(result, "traceback") is result


@UNHURRIED
@given(STORABLE)
def test_bounded_text_that_fits_is_unchanged(text: str) -> None:
    """Text that fits is not changed by its bound."""
    assert bounded(text, len(text.encode())) == text


@UNHURRIED
@given(st.text("aé€😀", min_size=60, max_size=300), st.integers(40, 59))
def test_bounded_text_is_cut_in_the_middle(text: str, limit: int) -> None:
    """Bounded text keeps its beginning and its end."""
    head, mark, tail = bounded(text, limit).partition("\n... cut ...\n")
    assert mark
    assert text.startswith(head)
    assert text.endswith(tail)
    assert min(len(head.encode()), len(tail.encode())) >= (limit - len(mark)) // 2 - 3
