"""Kinds of arguments and options."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

# ruff: noqa: PLC0415  the help of a command does without what checks its arguments


class Name(click.ParamType[str]):
    """A name that the rows can hold."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from tracking.errors import InvalidValue
        from tracking.values import check_name

        try:
            return check_name(value, "it")
        except InvalidValue as error:
            self.fail(str(error), param, ctx)


class Key(click.ParamType[str]):
    """An Idempotency-Key."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The key, which a header can hold."""
        from tracking.values import KEY, KEYS

        return str(value) if KEY.fullmatch(value) else self.fail(f"a key has {KEYS}", param, ctx)


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
    from tracking.spans import span_of

    span = span_of(text)
    if span is None:
        raise click.BadParameter(f"{text!r} is not like 30m, 1h or 7d", param_hint=option)
    return span


class Moment(click.ParamType["datetime"]):
    """A time: ISO 8601, in UTC unless it says another zone; or a span from now, such as 30m, back or `ahead`."""

    name = "time"

    def __init__(self, *, ahead: bool = False) -> None:
        self._ahead = ahead

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time, with its zone."""
        from tracking.spans import span_of

        if isinstance(value, datetime):
            return value
        span = span_of(value)
        if span is not None:
            return datetime.now(UTC) + (span if self._ahead else -span)
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-12-01T06:00Z, nor a span such as 30m", param, ctx)
        return read if read.tzinfo else read.replace(tzinfo=UTC)


class Object(click.ParamType[dict[str, Any]]):
    """A JSON object: as it is, as @file, or as - from standard input."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """The object, whose numbers and depth the API judges."""
        if isinstance(value, dict):
            return value
        from tracking.errors import InvalidValue
        from tracking.values import check_text, distinct

        try:
            read = json.loads(self._text(value), object_pairs_hook=distinct)
            check_text(json.dumps(read, ensure_ascii=False), "it")  # which no request holds
        except OSError as error:
            self.fail(f"{value[1:]}: {error.strerror}", param, ctx)
        except InvalidValue as error:
            self.fail(str(error), param, ctx)
        except (ValueError, RecursionError) as error:
            self.fail(f"is no JSON: {str(error)[:SHOWN]}", param, ctx)
        if not isinstance(read, dict):
            self.fail("is no JSON object", param, ctx)
        return read

    @staticmethod
    def _text(value: str) -> str:
        if value == "-":
            return sys.stdin.read()
        return Path(value[1:]).read_text(encoding="utf-8-sig") if value.startswith("@") else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:  # noqa: ARG002
        from click.shell_completion import CompletionItem

        if not incomplete.startswith("@"):
            return []
        return [CompletionItem(f"@{path}") for path in sorted(Path().glob(f"{incomplete[1:]}*"))][:MOST_COMPLETED]


class Word(click.Choice[str]):
    """One of some words; what was meant is suggested."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """All of them, and the one that is close."""
        from difflib import get_close_matches

        close = get_close_matches(str(value), [str(each) for each in self.choices], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"{super().get_invalid_choice_message(value, ctx)}{hint}"


def similar(name: str, known: Iterable[str]) -> str:
    """A question that suggests what was meant; empty when nothing is close."""
    from difflib import get_close_matches

    close = get_close_matches(name, sorted(known), n=1)
    return f": did you mean {close[0]!r}?" if close else ""


SHOWN = 200  # characters of what is wrong with JSON
MOST_COMPLETED = 100
