"""When a handler is retried: one limit and one delay, read at its registration from Celery's options."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Task

from tracking.errors import ConfigurationError

FIRST_DELAY = 5  # seconds; of handlers that say nothing of their delay, which then doubles
LONGEST_DELAY = 600
OPTIONS = (
    "max_retries",
    "default_retry_delay",
    "retry_backoff",
    "retry_backoff_max",
    "retry_jitter",
    "retry_kwargs",
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a handler is retried that does not say so at the moment.

    `max_retries` None: for ever. `backoff`: seconds before the first retry, doubled at each up to `longest`, with
    `jitter` a random share of that; 0: always `delay` seconds.
    """

    max_retries: int | None
    backoff: int
    longest: int
    jitter: bool
    delay: float
    manual_delay: float | None = None

    def wait(self, retries: int) -> float:
        """Seconds until the next attempt, after so many retries."""
        if not self.backoff:
            return self.delay
        seconds = min(self.longest, self.backoff * 2 ** min(retries, 32))
        return random.randrange(seconds + 1) if self.jitter else seconds  # noqa: S311 - to spread load

    @property
    def options(self) -> dict[str, Any]:
        """The same in Celery's words, for its `autoretry_for`."""
        return {
            "max_retries": self.max_retries,
            "default_retry_delay": self.delay if self.manual_delay is None else self.manual_delay,
            "retry_backoff": self.backoff,
            "retry_backoff_max": self.longest,
            "retry_jitter": self.jitter,
        }


def read_policy(options: Mapping[str, Any], base: type[Task]) -> tuple[RetryPolicy, dict[str, Any]]:  # type: ignore[type-arg]  # of any signature
    """What a handler's options and its base class say, and what remains of `retry_kwargs`.

    As in Celery, `retry_kwargs` goes before the limit and the fixed delay, and a back-off before every fixed delay.
    Raises ConfigurationError for what is no number.
    """
    said = {**_said_by(base), **{name: options[name] for name in OPTIONS if name in options}}
    rest = dict(said.get("retry_kwargs") or {})
    limit = _limit(rest.pop("max_retries", None), said)
    fixed, default = rest.pop("countdown", None), said.get("default_retry_delay")
    unsaid = 0 if fixed is not None or default is not None else FIRST_DELAY
    backoff = _number(said.get("retry_backoff", unsaid), "retry_backoff")
    policy = RetryPolicy(
        max_retries=limit,
        backoff=int(max(1.0, backoff)) if backoff else 0,  # Celery's own rounding
        longest=int(_number(said.get("retry_backoff_max", LONGEST_DELAY), "retry_backoff_max")),
        jitter=bool(said.get("retry_jitter", True)),
        delay=_number(
            fixed if fixed is not None else Task.default_retry_delay if default is None else default, "delay"
        ),
        manual_delay=None if default is None else _number(default, "default_retry_delay"),
    )
    return policy, rest


def _said_by(base: type[Task]) -> dict[str, Any]:  # type: ignore[type-arg]  # of any signature
    """The options that classes above the platform's own and Celery's have set."""
    said: dict[str, Any] = {}
    for each in reversed(base.__mro__):
        if not each.__module__.startswith(("celery.", "tasks.attempt.job")):
            said |= {name: vars(each)[name] for name in OPTIONS if name in vars(each)}
    return said


def _limit(first: Any, said: Mapping[str, Any]) -> int | None:
    limit = said.get("max_retries", Task.max_retries) if first is None else first
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise ConfigurationError(f"max_retries must be a whole number or None: {limit!r}")
    return limit


def _number(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or value < 0:
        raise ConfigurationError(f"{name} must be a number of seconds: {value!r}")
    return float(value)
