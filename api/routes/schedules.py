"""Schedules: create, read, change, pause, run, remove."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import ValidationError
from uuid_utils.compat import uuid7

from api import openapi
from api.auth import Principal, Reach, requires
from api.ledger import told_of
from api.origins import Came
from api.permissions import MANAGE_PLATFORM, MANAGE_SCHEDULES, VIEW_JOBS
from api.problems import invalid_by
from api.reading import Read, Served, SlowRead
from api.schemas import answers, fields, schedules
from api.schemas.schedules import Schedule
from api.schemas.webhooks import Deliveries, DeliveriesQuery
from api.strict import StrictRoute
from tasks import scheduling
from tasks.catalog import offered, taker
from tasks.platform import Platform
from tasks.templating import resolved
from tracking import clean_ups, templates
from tracking.errors import ScheduleChanged
from tracking.models import Owner
from tracking.origins import By
from tracking.reads import schedules as reads
from tracking.schedules import keeping
from tracking.schedules.keeping import NewSchedule
from tracking.schedules.times import next_times
from tracking.schedules.values import Plan
from tracking.schedules.values import Schedule as ScheduleRecord

router = APIRouter(prefix="/v1/schedules", tags=["schedules"], route_class=StrictRoute)

Viewer = Annotated[Principal, requires(VIEW_JOBS, reach=Reach.ONE)]
Manager = Annotated[Principal, requires(MANAGE_SCHEDULES, reach=Reach.ONE)]
ScheduleId = Annotated[UUID, Path(alias="id")]
SHOWN_TIMES = 5


@router.post("", status_code=201, responses=openapi.SCHEDULE_CREATED, openapi_extra=openapi.HANDLERS)
def create_schedule(
    principal: Manager, platform: Served, read: Read, new: schedules.NewSchedule, *, origin: Came, response: Response
) -> Schedule:
    """Have jobs made at these times. Its payload is checked now, and again each time."""
    template = None if new.template is None else read(templates.get, principal.organization, new.template)
    plan = new.plan(template)
    plan, granted, of_template = _granted(platform, principal, plan, principal.owner, known=None)
    wanted = NewSchedule(uuid7(), principal.owner, plan, granted, new.paused, of_template)
    created = scheduling.keep(platform, keeping.create, wanted, By(principal.actor, origin))
    response.headers.update({"Location": f"/v1/schedules/{created.id}", "ETag": tag(created)})
    return Schedule.of(created)


@router.get("", responses=openapi.READ)
def list_schedules(
    principal: Annotated[Principal, requires(VIEW_JOBS, reach=Reach.ALL)],
    read: Read,
    query: Annotated[schedules.SchedulesQuery, Query()],
) -> schedules.Schedules:
    """The schedules that the caller sees, by name."""
    if principal.everywhere:
        found = read(reads.everywhere, after=query.cursor, size=query.limit + 1)
    else:
        found = read(reads.page, principal.schedule_scope, after=query.cursor, size=query.limit + 1)
    return schedules.Schedules.of(found, query.limit, everywhere=principal.everywhere)


@router.get("/clean-ups", responses=openapi.READ)
def list_clean_ups(_: Annotated[Principal, requires(MANAGE_PLATFORM)], read: Read) -> schedules.CleanUps:
    """What the leading worker cleans up by itself, and how that last went."""
    return schedules.CleanUps(clean_ups=[schedules.CleanUp.of(each) for each in read(clean_ups.every)])


@router.get("/{id}", responses=openapi.SCHEDULE_READ)  # noqa: FAST003 - ScheduleId is that parameter
def get_schedule(principal: Viewer, read: Read, schedule_id: ScheduleId, response: Response) -> Schedule:
    """One schedule."""
    found = read(reads.get, schedule_id, principal.schedule_scope)
    response.headers["ETag"] = tag(found)
    return Schedule.of(found)


@router.patch("/{id}", responses=openapi.SCHEDULE_CHANGED, openapi_extra=openapi.HANDLERS)  # noqa: FAST003 - as above
def change_schedule(
    principal: Manager,
    platform: Served,
    read: Read,
    schedule_id: ScheduleId,
    said: schedules.ScheduleChange,
    *,
    origin: Came,
    response: Response,
    if_match: Annotated[str, Header()] = "*",
) -> Schedule:
    """Change a schedule. With other times it is due from now on; what was made stays as it is."""
    known = read(reads.get, schedule_id, principal.schedule_scope)
    _require_match(if_match, known)
    applied = said.applied(known.plan)
    plan, granted, of_template = _granted(platform, principal, applied, known.owner, known=known)
    scheduling.keep(
        platform,
        keeping.change,
        schedule_id,
        principal.schedule_scope,
        plan,
        granted=granted,
        granted_template=of_template,
        version=known.version,
        by=By(principal.actor, origin),
    )
    changed = read(reads.get, schedule_id, principal.schedule_scope)
    response.headers["ETag"] = tag(changed)
    return Schedule.of(changed)


@router.delete("/{id}", responses=openapi.SCHEDULE)  # noqa: FAST003 - as above
def remove_schedule(principal: Manager, platform: Served, schedule_id: ScheduleId, origin: Came) -> schedules.Removed:
    """Forget a schedule. The jobs that it has made stay."""
    by = By(principal.actor, origin)
    scheduling.keep(platform, keeping.remove, schedule_id, principal.schedule_scope, by)
    return schedules.Removed(message="Schedule removed successfully")


@router.post("/{id}/pause", responses=openapi.SCHEDULE)  # noqa: FAST003 - as above
def pause_schedule(principal: Manager, platform: Served, read: Read, schedule_id: ScheduleId, origin: Came) -> Schedule:
    """Let it make no job until it is resumed. What would be due meanwhile is not made up for."""
    scheduling.keep(platform, keeping.pause, schedule_id, principal.schedule_scope, By(principal.actor, origin))
    return Schedule.of(read(reads.get, schedule_id, principal.schedule_scope))


@router.post("/{id}/resume", responses=openapi.SCHEDULE)  # noqa: FAST003 - as above
def resume_schedule(
    principal: Manager, platform: Served, read: Read, schedule_id: ScheduleId, origin: Came
) -> Schedule:
    """Let it be due again from now on."""
    scheduling.keep(platform, keeping.resume, schedule_id, principal.schedule_scope, By(principal.actor, origin))
    return Schedule.of(read(reads.get, schedule_id, principal.schedule_scope))


@router.post("/{id}/skip-next", responses=openapi.SCHEDULE)  # noqa: FAST003 - as above
def skip_next(principal: Manager, platform: Served, read: Read, schedule_id: ScheduleId, origin: Came) -> Schedule:
    """Let its next due time make no job; called twice, the next two."""
    scheduling.keep(platform, keeping.skip_next, schedule_id, principal.schedule_scope, By(principal.actor, origin))
    return Schedule.of(read(reads.get, schedule_id, principal.schedule_scope))


@router.post("/{id}/run", status_code=202, responses=openapi.SCHEDULE_RUN, openapi_extra=openapi.HANDLERS)  # noqa: FAST003 - as above
def run_schedule(
    principal: Manager,
    platform: Served,
    read: Read,
    schedule_id: ScheduleId,
    *,
    origin: Came,
    response: Response,
    idempotency_key: Annotated[fields.IdempotencyKey | None, Header()] = None,
) -> answers.Created:
    """Make a job of it now, also while it is paused or an earlier job runs. Its due times stay as they are."""
    known = read(reads.get, schedule_id, principal.schedule_scope)
    plan, template = resolved(platform, known.owner.organization_id, known.plan)
    principal.must_have(taker(platform, plan.job_type).permission)
    principal.must_have(template.content.permission if template is not None else None)
    scope, by = principal.schedule_scope, By(principal.actor, origin)
    submitted = scheduling.run_now(platform, schedule_id, scope, by, idempotency_key=idempotency_key)
    response.headers.update(answers.created_headers(submitted))
    return answers.Created.of(submitted.job)


@router.get("/{id}/next", responses=openapi.SCHEDULE)  # noqa: FAST003 - as above
def next_due_times(principal: Viewer, read: Read, schedule_id: ScheduleId) -> schedules.DueTimes:
    """When it is due the next five times."""
    found = read(reads.get, schedule_id, principal.schedule_scope)
    return schedules.DueTimes(times=[] if found.paused else next_times(found.rule, found.since, SHOWN_TIMES))


@router.get("/{id}/deliveries", responses=openapi.SCHEDULE_TOLD)  # noqa: FAST003 - as above
def list_schedule_deliveries(
    principal: Viewer, read: SlowRead, schedule_id: ScheduleId, query: Annotated[DeliveriesQuery, Query()]
) -> Deliveries:
    """What webhooks were told of its due times, newest first; of the jobs that it has made each has its own list."""
    found = read(reads.get, schedule_id, principal.schedule_scope)
    return told_of(read, found.owner.organization_id, schedule_id, query)


@router.get("/{id}/outcomes", responses=openapi.SCHEDULE)  # noqa: FAST003 - as above
def schedule_outcomes(
    principal: Viewer, read: Read, schedule_id: ScheduleId, query: Annotated[schedules.OutcomesQuery, Query()]
) -> schedules.Outcomes:
    """What became of its due times, newest first: a job, skipped, or failed with the reason."""
    scope = principal.schedule_scope
    found = read(reads.outcomes_of, schedule_id, scope, before=query.before, size=query.limit + 1)
    return schedules.Outcomes.of(found, query.limit)


def tag(schedule: ScheduleRecord) -> str:
    """What names a state of a schedule that people have made, for `ETag` and `If-Match`."""
    return f'"{schedule.id.hex}-{schedule.version}"'


def _require_match(if_match: str, known: ScheduleRecord) -> None:
    tags = re.findall(r'"[^"]*"', if_match)
    if if_match.strip() != "*" and tag(known) not in tags:
        raise ScheduleChanged(f"If-Match does not name the state of the schedule {known.id}")


def _granted(
    platform: Platform, principal: Principal, plan: Plan, owner: Owner, *, known: ScheduleRecord | None
) -> tuple[Plan, str | None, str | None]:
    """The plan, and the permissions of the handler's and the template's that the caller has shown for such jobs.

    Its type is that of its template now. Their payload is checked here. Raises Problem.
    """
    together, template = resolved(platform, owner.organization_id, plan)
    of_template = template.content.permission if template is not None else None
    principal.must_have(of_template)
    is_as_known = known is not None and known.plan.job_type == together.job_type
    handler = (taker if is_as_known else offered)(platform, together.job_type)
    principal.must_have(handler.permission)
    try:
        scheduling.accepted(handler, together, owner, {})
    except ValidationError as error:
        raise invalid_by(error, within="payload") from None
    return replace(plan, job_type=together.job_type), handler.permission, of_template
