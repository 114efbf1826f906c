"""The beat_schedule of a Celery app, read as what schedules say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.app.utils import find_app
from celery.schedules import BaseSchedule, crontab, solar
from celery.schedules import schedule as interval

from tracking.errors import ConfigurationError
from tracking.schedules.values import Plan
from tracking.values import check_json

if TYPE_CHECKING:
    from tasks.app import JobApp

# The fields of a crontab in the order of cron's, with all that each can be.
FIELDS: Mapping[str, Collection[int]] = {
    "minute": range(60),
    "hour": range(24),
    "day_of_month": range(1, 32),
    "month_of_year": range(1, 13),
    "day_of_week": range(7),
}


class Refused(Exception):
    """An entry that cannot be a schedule; the message says why."""


def entries_of(where: str, tasks: JobApp) -> Iterator[tuple[str, Callable[[], Plan]]]:
    """The entries by name, each with what reads it, which raises Refused. Raises ConfigurationError for no app."""
    try:
        beat: Celery = find_app(where)
        beat.finalize()
        entries = dict(beat.conf.beat_schedule or {})
    except Exception as error:  # whatever the user's module raises
        raise ConfigurationError(f"{where} is no Celery app that can be imported: {error}") from error
    for name, entry in sorted(entries.items()):
        yield str(name), partial(_plan, beat, tasks, str(name), entry)


def _plan(beat: Celery, tasks: JobApp, name: str, entry: Mapping[str, Any]) -> Plan:
    options = dict(entry.get("options") or {})
    priority = options.pop("priority", None)
    if options:
        raise Refused(f"the option {min(options)} cannot be kept: say it at the task")
    job_type = str(entry["task"])
    payload = _payload(tasks, job_type, entry.get("args") or (), entry.get("kwargs") or {})
    return Plan(name, job_type, payload, priority, **_times(beat, entry["schedule"]))


def _times(beat: Celery, schedule: Any) -> dict[str, Any]:
    if isinstance(schedule, solar):
        raise Refused("solar times (sunrise and its like) are not supported: take cron, or an interval")
    if isinstance(schedule, crontab):
        return {"cron": _cron(schedule), "timezone": _zone(schedule, beat)}
    if isinstance(schedule, interval):
        schedule = schedule.run_every  # type: ignore[attr-defined]  # the stubs leave it out
    if isinstance(schedule, timedelta):
        schedule = schedule.total_seconds()
    if isinstance(schedule, int | float) and not isinstance(schedule, bool):
        if schedule < 1 or not float(schedule).is_integer():
            raise Refused(f"an interval is whole seconds, at least 1, and not {schedule}")
        return {"every_seconds": int(schedule)}
    kind = type(schedule).__name__
    raise Refused(f"a schedule of the kind {kind} is not supported: take cron, or an interval")


def _cron(schedule: crontab) -> str:
    """The same as five fields, of the numbers that Celery has read."""
    numbers_of = {name: sorted(getattr(schedule, name)) for name in FIELDS}
    is_open = {name: numbers_of[name] == list(FIELDS[name]) for name in FIELDS}
    if not is_open["day_of_month"] and not is_open["day_of_week"]:
        raise Refused("Celery asks for both the day and the weekday, cron for either: leave one of them out")
    return " ".join("*" if is_open[name] else _shown(schedule, name, numbers_of[name]) for name in FIELDS)


def _shown(schedule: crontab, name: str, found: list[int]) -> str:
    step = str(getattr(schedule, f"_orig_{name}", ""))
    if step.startswith("*/") and step[2:].isdigit():  # every so many: each hour that comes twice in autumn, too
        return step
    return ",".join(map(str, found))


def _zone(schedule: BaseSchedule, beat: Celery) -> str:
    """Of the app that the entry names, or of the one that is read."""
    own: Celery = getattr(schedule, "_app", None) or beat
    zone: tzinfo = own.timezone
    return getattr(zone, "key", None) or getattr(zone, "zone", None) or str(zone)


def _payload(tasks: JobApp, job_type: str, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the API would get them. Raises Refused for what it could not."""
    handler: Any = tasks.tasks.get(job_type)
    if handler is None:
        raise Refused(f"no handler is registered for {job_type!r}: name its module in CELERIAC_IMPORTS")
    signature = handler.signature_read
    given = [*args, *kwargs.values()]
    if signature.takes_object and given:
        if len(given) > 1 or not isinstance(given[0], Mapping):
            raise Refused(f"{job_type} takes one argument, its payload")
        checked: dict[str, Any] = check_json(dict(given[0]), "payload")
        return checked
    names = [parameter.name for parameter in signature.parameters]
    if len(args) > len(names):
        raise Refused(f"{job_type} takes {len(names)} arguments, not {len(args)}")
    named: dict[str, Any] = check_json({**dict(zip(names, args, strict=False)), **kwargs}, "payload")
    return named
