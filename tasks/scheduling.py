"""The jobs that schedules make: each as somebody might have asked for it by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

from pydantic import ValidationError

from tasks import submission
from tasks.attempt.job import Job
from tasks.catalog import taker
from tasks.external import External
from tasks.platform import Platform
from tasks.refusals import reason_of
from tasks.templating import resolved
from tracking.db import Connection, SQLAlchemyError
from tracking.errors import ScheduleUnfit
from tracking.models import JsonObject, NewJob, Owner, Scope, Submitted
from tracking.origins import By, Origin
from tracking.schedules import firing
from tracking.schedules.firing import Make, actor_of
from tracking.schedules.values import Plan, Schedule
from tracking.values import in_milliseconds

# What the metadata of a job says of the schedule that has made it.
SCHEDULE_ID = "scheduleId"
DUE_AT = "dueAt"

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


def keep(
    platform: Platform,
    verb: Callable[Concatenate[Connection, Parameters], Answer],
    *args: Parameters.args,
    **kwargs: Parameters.kwargs,
) -> Answer:
    """What a verb of tracking.schedules answers, in a transaction of its own."""
    with platform.database.begin() as connection:
        return verb(connection, *args, **kwargs)


def run_now(
    platform: Platform, schedule_id: UUID, scope: Scope, by: By, *, idempotency_key: str | None = None
) -> Submitted:
    """Make a job of a schedule now, and send it; with a key, once.

    Raises ScheduleNotFound, ScheduleUnfit, TooManyWaiting or IdempotencyConflict.
    """
    with platform.database.begin() as connection:
        make, limits = with_room(platform, connection, made_by(platform, by)), platform.limits
        submitted = firing.run_now(connection, schedule_id, scope, make, limits, by=by, idempotency_key=idempotency_key)
    if submitted.created:
        submission.dispatch(platform, submitted.job)
    return submitted


def made_by(platform: Platform, by: By) -> Make:
    """Which job a schedule makes now for somebody."""

    def make(schedule: Schedule, _: datetime) -> NewJob:
        return _job(platform, schedule, {SCHEDULE_ID: str(schedule.id)}, actor=by.actor, origin=by.origin)

    return make


def with_room(platform: Platform, connection: Connection, make: Make) -> Make:
    """The same job, unless as many of the organization wait as may: raises TooManyWaiting. Wants a transaction."""

    def made(schedule: Schedule, due_at: datetime) -> NewJob:
        new = make(schedule, due_at)
        platform.crowding.require_room(connection, [new])
        return new

    return made


def job_of(platform: Platform, schedule: Schedule, due_at: datetime) -> NewJob:
    """The job that a due time makes. Raises ScheduleUnfit."""
    names = {SCHEDULE_ID: str(schedule.id), DUE_AT: in_milliseconds(due_at)}
    return _job(platform, schedule, names, actor=actor_of(schedule), origin=None)


def accepted(handler: Job | External, plan: Plan, owner: Owner, names: JsonObject) -> NewJob:
    """The job that a plan asks its handler for. Raises pydantic.ValidationError or InvalidValue."""
    return handler.accept(
        plan.payload,
        owner,
        priority=plan.priority,
        max_retries=plan.max_retries,
        project_id=plan.project_id,
        metadata={**plan.metadata, **names},
    )


def _job(platform: Platform, schedule: Schedule, names: JsonObject, *, actor: str, origin: Origin | None) -> NewJob:
    try:
        plan, template = resolved(platform, schedule.owner.organization_id, schedule.plan)
        _require_type(schedule.plan, plan)
        handler = taker(platform, plan.job_type)
        _require_granted("handler", handler.permission, schedule.granted)
        if template is not None:
            _require_granted("template", template.content.permission, schedule.granted_template)
        return replace(accepted(handler, plan, schedule.owner, names), actor=actor, origin=origin)
    except (SQLAlchemyError, ScheduleUnfit):
        raise
    except Exception as error:
        raise ScheduleUnfit(said(error)) from error


def _require_type(said: Plan, plan: Plan) -> None:
    """Raises ScheduleUnfit for a template that was made anew, of another type, under the name of the one that was."""
    if said.job_type != plan.job_type:
        raise ScheduleUnfit(f"its template {said.template!r} is of the type {plan.job_type} now, not {said.job_type}")


def _require_granted(whose: str, permission: str | None, shown: str | None) -> None:
    if permission not in (None, shown):
        raise ScheduleUnfit(f"its {whose} asks for {permission}, which whoever has set it did not show")


def said(error: Exception) -> str:
    """Why, without what was in the payload."""
    if not isinstance(error, ValidationError):
        return reason_of(error).message
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(['payload', *map(str, first['loc'])])}: {first['msg'].removeprefix('Value error, ')}"
