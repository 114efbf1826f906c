"""Many jobs in one request: all of them or none, or each with an answer of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import ValidationError

from api import openapi
from api.auth import Principal, requires
from api.origins import Came, keep_denied
from api.permissions import CREATE_JOBS
from api.problems import MOST_ERRORS, Code, Problem, invalid_by, problem_of, unknown_dependency
from api.reading import Served
from api.schemas import fields
from api.schemas.bulk import BulkAnswer, BulkJob, CreatedJobs, NewJobs, Refusal, Unfit
from api.strict import StrictRoute
from tasks import submission
from tasks.attempt.job import Job
from tasks.catalog import offered
from tasks.external import External
from tasks.platform import Platform
from tracking.errors import TrackingError, UnknownDependency, UnknownJobType
from tracking.models import NewJob, Submitted
from tracking.origins import Origin

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)


@router.post("/bulk", status_code=202, responses=openapi.BULK_CREATED, openapi_extra=openapi.HANDLERS)
def create_jobs(
    principal: Annotated[Principal, requires(CREATE_JOBS)],
    platform: Served,
    new: NewJobs,
    *,
    origin: Came,
    idempotency_key: Annotated[fields.IdempotencyKey | None, Header()] = None,
) -> CreatedJobs:
    """Accept many jobs. Those that are accepted are kept until they end, as with a request for each."""
    digest = None if idempotency_key is None else new.digest  # of the whole: under its key, nothing else may be asked
    judged = _judged(platform, principal, new, key=idempotency_key, digest=digest, origin=origin)
    if new.mode == "each" and judged.denied:
        keep_denied(platform, principal, origin, judged.denied)
    if new.mode == "all" and judged.refused:
        raise _first_of(judged.refused)
    valid = [job for _, job in judged.valid]
    submitted = submission.submit_many(
        platform, valid, principal.scope, together=new.mode == "all", digest=digest if new.mode == "each" else None
    )
    answers = dict(zip((place for place, _ in judged.valid), submitted, strict=True))
    for place, answer in answers.items():
        if isinstance(answer, TrackingError):
            given = new.jobs[place]
            judged.refused[place] = _problem_of(answer, given if isinstance(given, BulkJob) else None)
    if new.mode == "all" and judged.refused:
        raise _first_of(judged.refused)
    return _answer(len(new.jobs), answers, judged.refused)


@dataclass(slots=True)
class Judged:
    """The jobs that may be submitted, by their places, why others may not, and of which types none may be."""

    valid: list[tuple[int, NewJob]] = field(default_factory=list)
    refused: dict[int, Problem] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)


def _judged(
    platform: Platform, principal: Principal, new: NewJobs, *, key: str | None, digest: str | None, origin: Origin
) -> Judged:
    judged, takers = Judged(), dict[str, Job | External | Problem]()
    for place, given in enumerate(new.jobs):
        if isinstance(given, Unfit):
            judged.refused[place] = invalid_by(given.error, outer=False)
            continue
        if given.job_type not in takers:
            takers[given.job_type] = _taker(platform, principal, given.job_type)
        taker = takers[given.job_type]
        if isinstance(taker, Problem):
            judged.refused[place] = taker
            if taker.code is Code.PERMISSION_MISSING:
                judged.denied.add(given.job_type)
            continue
        try:
            job = taker.accept(given.payload, principal.owner, **given.wishes(given.idempotency_key))
        except (ValidationError, TrackingError) as error:
            judged.refused[place] = _problem_of(error, given)
            continue
        if digest is not None and job.idempotency_key is None:
            job = replace(job, idempotency_key=f"{key}/{place}", request_hash=digest)
        judged.valid.append((place, replace(job, origin=origin)))
    return judged


def _taker(platform: Platform, principal: Principal, job_type: str) -> Job | External | Problem:
    try:
        taker = offered(platform, job_type)
        principal.must_have(taker.permission)
    except (UnknownJobType, Problem) as error:
        return problem_of(error)
    return taker


def _problem_of(error: Exception, given: BulkJob | None) -> Problem:
    if isinstance(error, ValidationError):
        return invalid_by(error, within="payload")
    if isinstance(error, UnknownDependency) and given is not None:
        return unknown_dependency(given.depends_on, error.job_ids, str(error))
    return problem_of(error)


def _first_of(refused: Mapping[int, Problem]) -> Problem:
    """The problem of a request of which nothing is accepted: the first one's, and the places of all."""
    first = min(refused)
    errors = list(_placed(refused))[:MOST_ERRORS]
    detail = f"jobs.{first}: {refused[first].detail}"
    return Problem(refused[first].code, detail, headers=refused[first].headers, extra={"errors": errors})


def _placed(refused: Mapping[int, Problem]) -> Iterator[dict[str, str]]:
    for place, problem in sorted(refused.items()):
        found: Sequence[dict[str, str]] = problem.extra.get("errors") or [{"field": "", "message": problem.detail}]
        for each in found:
            yield {"field": f"jobs.{place}.{each['field']}".rstrip("."), "message": each["message"]}


def _answer(
    count: int, answers: Mapping[int, Submitted | TrackingError], refused: Mapping[int, Problem]
) -> CreatedJobs:
    jobs = []
    for place in range(count):
        answer = answers.get(place)
        if isinstance(answer, Submitted):
            job = answer.job
            one = BulkAnswer(index=place, job_id=job.id, status=job.status, is_new=answer.created, refusal=None)
        else:
            problem = refused[place]
            refusal = Refusal(code=str(problem.code), detail=problem.detail, errors=problem.extra.get("errors", []))
            one = BulkAnswer(index=place, job_id=None, status=None, is_new=False, refusal=refusal)
        jobs.append(one)
    return CreatedJobs(accepted=count - len(refused), refused=len(refused), jobs=jobs)
