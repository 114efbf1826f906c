"""Schedules, as the commands find them by their names and print them."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from itertools import islice
from typing import Any
from uuid import UUID

from celeriac.client import Client
from celeriac.client.kept import Schedule
from celeriac.commands.screen import Columns, Screen, plain
from tracking.errors import ConfigurationError

SHOWN = 10  # outcomes


def _outcome(outcome: Any) -> str:
    said = str(outcome.status or outcome.outcome)
    return f"{said}: {outcome.reason}" if outcome.reason else said


COLUMNS: Columns = {
    "schedule": lambda found: found.name,
    "type": lambda found: found.job_type,
    "when": lambda found: found.words,
    "next": lambda found: "paused" if found.paused else found.next_at,
    "last": lambda found: _outcome(found.last_outcomes[0]) if found.last_outcomes else None,
    "user": lambda found: found.user_id,
}
OUTCOMES: Columns = {
    "due": lambda outcome: outcome.due_at,
    "became": _outcome,
    "times": lambda outcome: outcome.count,
    "job": lambda outcome: outcome.job_id,
}


def add(client: Client, screen: Screen, name: str, **said: Any) -> None:
    """Make one, and print when it is due."""
    made = client.create_schedule(name, **{each: value for each, value in said.items() if value is not None})
    if screen.as_json:
        screen.json(made)
    else:
        screen.say(f"{name}: {made.words}; {_due(made)}.")


def show(client: Client, screen: Screen, name: str) -> None:
    """Print one with its next times and its last outcomes."""
    found = named(client, name)
    facts = {title: of(found) for title, of in COLUMNS.items()}
    screen.one(found, {**facts, "payload": found.payload, "next times": client.next_times(found.id) or None})
    if not screen.as_json:
        screen.rows(islice(client.outcomes(found.id), SHOWN), OUTCOMES)


def do(client: Client, screen: Screen, name: str, verb: Callable[[UUID], Schedule]) -> None:
    """Do it to the one of a name, and print when it is due then."""
    changed = verb(named(client, name).id)
    if screen.as_json:
        screen.json(changed)
    else:
        screen.say(f"{name}: {_due(changed)}.")


def named(client: Client, name: str) -> Schedule:
    """The schedule of a name. Raises ConfigurationError when there is none, with what was meant."""
    names = []
    for each in client.schedules():
        if each.name == name:
            return each
        names.append(each.name)
    close = get_close_matches(name, names, n=1)
    raise ConfigurationError(f"there is no schedule {name!r}{f': did you mean {close[0]!r}?' if close else ''}")


def _due(found: Schedule) -> str:
    if found.paused:
        return "paused"
    return f"due next {plain(found.next_at)}" if found.next_at else "never due again"
