"""Kinds of arguments and options."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from tracking.errors import InvalidValue
from tracking.settings import span_of
from tracking.values import check_name


class Name(click.ParamType[str]):
    """A name that the rows can hold."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_name(value, "it")
        except InvalidValue as error:
            self.fail(str(error), param, ctx)


class Names(click.ParamType[tuple[str, ...]]):
    """Names, comma-separated."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """All that are not empty."""
        if isinstance(value, tuple):
            return value
        parts = tuple(Name().convert(part.strip(), param, ctx) for part in value.split(",") if part.strip())
        return parts or self.fail("it names nothing", param, ctx)


def span_given(text: str, option: str) -> timedelta:
    """A length of time such as 30m. Raises click.BadParameter, which names the option."""
    span = span_of(text)
    if span is None:
        raise click.BadParameter(f"{text!r} is not like 30m, 1h or 7d", param_hint=option)
    return span
