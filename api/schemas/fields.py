"""The kinds of values in requests and answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from tasks.encoding import as_json
from tracking.errors import InvalidValue
from tracking.fingerprints import DIGITS, PATTERN
from tracking.reads.lists import CURSOR
from tracking.states import STATUS_WORDS, status_of
from tracking.values import check_json, check_moment, check_segment, check_text


def _instant(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("Input should be text such as 2026-01-31T12:00:00Z")  # noqa: TRY004 - pydantic's own way
    try:
        moment = datetime.fromisoformat(UNESCAPED.sub(r"\1+\2", value))
    except ValueError as error:
        reason = "" if "isoformat" in str(error) else f": {error}"  # "second must be in 0..59"
        raise ValueError(f"Input should be text such as 2026-01-31T12:00:00Z{reason}") from None
    if moment.tzinfo is None:
        raise ValueError("Input should say its time zone, such as Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("Input should lie between the years 1 and 9999") from None


def _past(value: datetime) -> datetime:
    if value > datetime.now(UTC) + CLOCKS_APART:
        raise ValueError("Input should not lie in the future")
    return value


def _milliseconds(value: Any) -> Any:
    # Half a millisecond goes up, as PostgreSQL rounds it in reports; Python's round() would go to the even number.
    return floor(value / timedelta(milliseconds=1) + 0.5) if isinstance(value, timedelta) else value


def _checked(check: Callable[[Any, str], Any]) -> AfterValidator:
    """A validator that refuses a value with the message of `check`, which is told the name of the field."""

    def checked(value: Any, info: ValidationInfo) -> Any:
        try:
            return check(value, to_camel(info.field_name or "it"))
        except InvalidValue as error:
            raise ValueError(str(error)) from None

    return AfterValidator(checked)


def _one(name: str) -> str:
    if name == ALL:
        raise ValueError(f"{ALL} stands for all organizations: name one")
    return name


def _listed(value: list[str]) -> list[str]:
    return [part for text in value for part in text.split(",")]


def _whole(value: Any) -> Any:
    # In JSON Schema as in JavaScript 5.0 is the integer 5.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _window(value: Any) -> Any:
    if value == "all":
        return None
    try:
        return SPAN.validate_python(value)
    except ValidationError:
        raise ValueError("Input should be a span of time such as PT15M or P7D, or all") from None


def _described(**schema: Any) -> Any:
    """What the description says of a type, beyond what pydantic finds; the check itself is done by a validator."""
    return Field(json_schema_extra=schema)


UNESCAPED = re.compile("(T[0-9:.]+) ([0-9]{2}:?[0-9]{2})$")  # +01:00 in an address whose plus is read as a space
SPAN = TypeAdapter(timedelta)
LONGEST_WINDOW = timedelta(days=90)
CLOCKS_APART = timedelta(seconds=30)  # times that we have answered are of the database's clock, which may be ahead

# What the description says. A little less than is accepted, so that whatever it allows is accepted; and in some of the
# languages that read it, `$` alone also matches before a line break at the end.
END = r"$(?!\n)"
NO_NUL = r"^[^\u0000]*$"
ALL = "*"  # instead of the name of an organization: all of them
NOT_ALL = r"^(?!\*$)[^\u0000]*$"
SEGMENT = r"^(?!\.{1,2}$)[^/\u0000]+$"
KEY = r"^[!-~]([ -~]*[!-~])?"
IN_A_YEAR = (
    r"-[01][0-9]-[0-3][0-9]"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])" + END
)
MOMENT = r"^(197[1-9]|19[89][0-9]|2[0-8][0-9]{2}|29[0-8][0-9]|299[0-8])" + IN_A_YEAR
WINDOW = (
    r"^(all|P([1-9]|[1-8][0-9]|90)D|PT[1-9][0-9]{0,2}H|PT[1-9][0-9]{0,4}M|PT([1-9][0-9]{0,5}|[1-6][0-9]{6})S)" + END
)

ELSEWHERE = "Another organization; that takes jobs.manage_platform."
EVERYWHERE_TOO = "`*`: all of them."

# Of requests:
Name = Annotated[str, Field(min_length=1, max_length=255), _checked(check_text), _described(pattern=NO_NUL)]
OneName = Annotated[Name, AfterValidator(_one), _described(pattern=NOT_ALL)]
Segment = Annotated[str, Field(min_length=1, max_length=255), _checked(check_segment), _described(pattern=SEGMENT)]
Place = Annotated[str, Field(min_length=1, max_length=520), _checked(check_text), _described(pattern=NO_NUL)]
Text = Annotated[str, Field(max_length=1000), _checked(check_text), _described(pattern=NO_NUL)]
Search = Annotated[str, Field(max_length=500), _checked(check_text), _described(pattern=NO_NUL)]
Words = Annotated[str, Field(min_length=1, max_length=200), _checked(check_text), _described(pattern=NO_NUL)]
JsonObject = Annotated[dict[str, Any], _checked(check_json)]
GivenInstant = Annotated[datetime, BeforeValidator(_instant), _described(pattern=MOMENT)]
# Of which no pattern can say that they lie in the past: a mark of our own does.
PastInstant = Annotated[
    datetime, BeforeValidator(_instant), AfterValidator(_past), _described(pattern=MOMENT, **{"x-past": True})
]
KeptInstant = Annotated[GivenInstant, _checked(check_moment)]
Limit = Annotated[int, Field(ge=1, le=100)]
Whole = BeforeValidator(_whole)
Cursor = Annotated[str, Field(max_length=200, pattern=f"^({CURSOR})?$"), _described(pattern=f"^({CURSOR})?{END}")]
Fingerprint = Annotated[str, Field(pattern=PATTERN), _described(pattern=f"^[0-9a-f]{{{DIGITS}}}{END}")]
IdempotencyKey = Annotated[str, Field(max_length=255, pattern=f"{KEY}$"), _described(pattern=f"{KEY}{END}")]
Window = Annotated[
    Annotated[timedelta, Field(gt=timedelta(0), le=LONGEST_WINDOW)] | None,
    BeforeValidator(_window),
    WithJsonSchema({"type": "string", "pattern": WINDOW, "examples": ["PT15M", "P7D", "all"]}),
]
StatusWord = Annotated[Literal[STATUS_WORDS], AfterValidator(status_of)]  # type: ignore[valid-type]  # from the data
Listed = BeforeValidator(_listed)  # `a=x,y&a=z` is x, y, z

# Of answers:
Percent = Annotated[int, Field(ge=0, le=100)]
Priority = Annotated[int, Field(ge=0, le=9)]
Milliseconds = Annotated[int, BeforeValidator(_milliseconds)]
Payload = Annotated[dict[str, Any], BeforeValidator(as_json)]
