"""The kinds of values in requests and answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import floor
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationInfo
from pydantic.alias_generators import to_camel

from tasks.encoding import as_json
from tracking.errors import InvalidValue
from tracking.states import STATUS_WORDS, status_of
from tracking.values import check_json, check_segment, check_text


def _instant(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("Input should be text such as 2026-01-31T12:00:00Z")  # noqa: TRY004 - pydantic's own way
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("Input should say its time zone, such as Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("Input should lie between the years 1 and 9999") from None


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _milliseconds(value: Any) -> Any:
    # Half a millisecond goes up, as PostgreSQL rounds it in reports; Python's round() would go to the even number.
    return floor(value / timedelta(milliseconds=1) + 0.5) if isinstance(value, timedelta) else value


def _storable(value: str, info: ValidationInfo) -> str:
    try:
        return check_text(value, to_camel(info.field_name or "it"))
    except InvalidValue as error:
        raise ValueError(str(error)) from None


def _segment(value: str, info: ValidationInfo) -> str:
    try:
        return check_segment(value, to_camel(info.field_name or "it"))
    except InvalidValue as error:
        raise ValueError(str(error)) from None


def _json_object(value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    try:
        checked: dict[str, Any] = check_json(value, to_camel(info.field_name or "it"))
    except InvalidValue as error:
        raise ValueError(str(error)) from None
    return checked


def _listed(value: list[str]) -> list[str]:
    return [part for text in value for part in text.split(",")]


def distinct(values: list[Any]) -> list[Any]:
    """The values, if no two are equal."""
    if len(set(values)) < len(values):
        raise ValueError("Input should not hold the same twice")
    return values


# Of requests:
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_storable)]
Segment = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/]*$"), AfterValidator(_segment)]
Text = Annotated[str, Field(max_length=1000), AfterValidator(_storable)]
Words = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_json_object)]
GivenInstant = Annotated[datetime, BeforeValidator(_instant)]
Limit = Annotated[int, Field(ge=1, le=100)]
Cursor = Annotated[str, Field(max_length=200)]
IdempotencyKey = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[ -~]+$")]
StatusWord = Annotated[Literal[STATUS_WORDS], AfterValidator(status_of)]  # type: ignore[valid-type]  # from the data
Listed = BeforeValidator(_listed)  # `a=x,y&a=z` is x, y, z

# Of answers:
Instant = Annotated[datetime, PlainSerializer(_written, return_type=str)]
Milliseconds = Annotated[int, BeforeValidator(_milliseconds)]
Payload = Annotated[dict[str, Any], BeforeValidator(as_json)]
