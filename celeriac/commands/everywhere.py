"""Schedules of all organizations, and those that Celery's beat has: what an operator does with the database alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime

import click
from pydantic import ValidationError
from uuid_utils.compat import uuid7

from celeriac.commands.beat import Refused, entries_of
from celeriac.commands.controls import TERMINAL, TIMEOUT
from celeriac.commands.operations import connected, own_platform
from tasks import scheduling
from tasks.app import app as tasks
from tasks.catalog import taker
from tasks.words import in_words
from tracking import clean_ups
from tracking.db import Connection
from tracking.errors import (
    ConfigurationError,
    InvalidValue,
    ScheduleExists,
    ScheduleUnfit,
    TooManySchedules,
    UnknownJobType,
)
from tracking.exit_status import Exit
from tracking.models import Owner, Scope
from tracking.origins import OPERATOR, By
from tracking.reads import schedules as reads
from tracking.schedules import keeping
from tracking.schedules.keeping import NewSchedule
from tracking.schedules.times import LONGEST_INTERVAL, check_cron
from tracking.schedules.values import Plan, Schedule

BY = By(OPERATOR, TERMINAL)


def print_schedules() -> None:
    """Print the schedules of all organizations, and what the platform cleans up by itself."""
    with connected(TIMEOUT) as database, database.autocommit() as connection:
        found = reads.of_all(connection, None)
        own = clean_ups.every(connection)
    for each in found:
        due = "paused" if each.paused else _moment(each.next_at)
        where = each.owner.organization_id
        click.echo(f"{where:<16}  {each.plan.name:<24}  {in_words(each.plan):<40}  {due:<20}  {_last(each)}")
    for clean_up in own:
        how = clean_up.error or f"removed {clean_up.removed}"
        words = in_words(Plan(clean_up.name, "", every_seconds=clean_up.every_seconds))
        click.echo(f"{'(the platform)':<16}  {clean_up.name:<24}  {words:<40}  {_moment(clean_up.next_at):<20}  {how}")


def import_beat(where: str, organization_id: str, user_id: str) -> Exit:
    """Make the entries of a Celery app's beat_schedule schedules, or change those of the same names.

    What cannot be one is told on stderr, and the others are taken. Raises ConfigurationError for no such app.
    """
    owner, refused = Owner(organization_id, user_id), 0
    with connected(TIMEOUT) as database:
        for name, read in entries_of(where, tasks):
            try:
                with _refusals(), database.begin() as connection:
                    done = _taken(connection, read(), owner)
            except (Refused, ConfigurationError) as error:
                refused += 1
                click.echo(f"celeriac: {name}: refused: {error}", err=True)
            else:
                click.echo(f"{name}: {done}.")
    return Exit.MISUSED if refused else Exit.FINE


def _taken(connection: Connection, plan: Plan, owner: Owner) -> str:
    granted = _checked(plan, owner)
    known = keeping.named(connection, owner.organization_id, plan.name)
    if known is None:
        keeping.create(connection, NewSchedule(uuid7(), owner, plan, granted), BY)
        return "added"
    # What beat does not know stays as somebody has set it since.
    wanted = replace(plan, **{each: getattr(known.plan, each) for each in NOT_IN_BEAT})
    scope = Scope(owner.organization_id, None)
    changed = keeping.change(connection, known.id, scope, wanted, granted=granted, version=known.version, by=BY)
    return "as it was" if changed.version == known.version else "changed"


NOT_IN_BEAT = {each.name for each in fields(Plan)} - {
    *("name", "job_type", "payload", "priority", "cron", "timezone", "every_seconds")
}


def _checked(plan: Plan, owner: Owner) -> str | None:
    """The permission of the handler that an operator grants, whose payload is checked."""
    if plan.cron is not None and plan.timezone is not None:
        check_cron(plan.cron, plan.timezone, datetime.now(UTC))
    elif not 1 <= (plan.every_seconds or 0) <= LONGEST_INTERVAL:
        raise InvalidValue(f"an interval is whole seconds, from 1 to {LONGEST_INTERVAL}")
    with own_platform(0) as platform:
        handler = taker(platform, plan.job_type)
    scheduling.accepted(handler, plan, owner, {})
    return handler.permission


@contextmanager
def _refusals() -> Iterator[None]:
    """What is wrong with a schedule is a wrong use, told in one line."""
    try:
        yield
    except ValidationError as error:
        raise ConfigurationError(scheduling.said(error)) from None
    except (InvalidValue, ScheduleExists, ScheduleUnfit, TooManySchedules, UnknownJobType) as error:
        raise ConfigurationError(str(error)) from None


def _moment(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def _last(schedule: Schedule) -> str:
    if not schedule.last:
        return ""
    newest = schedule.last[0]
    said = newest.status or newest.became
    return f"{said}: {newest.reason}" if newest.reason else str(said)
