"""Templates: jobs that are asked for by name."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Body, Header, Path, Query, Response
from pydantic import ValidationError
from uuid_utils.compat import uuid7

from api import openapi
from api.auth import Principal, Reach, requires
from api.origins import Came
from api.permissions import CREATE_JOBS, MANAGE_TEMPLATES, VIEW_JOBS
from api.problems import invalid, invalid_by
from api.reading import Read, Served
from api.routes.jobs import submit
from api.schemas import answers, fields, requests, templates
from api.schemas.templates import Template
from api.strict import StrictRoute
from tasks.catalog import offered
from tasks.platform import Platform
from tasks.templating import metadata_of, payload_of
from tracking import templates as tracked
from tracking.errors import TemplateChanged
from tracking.templates import Content
from tracking.templates import Template as TemplateRecord

router = APIRouter(prefix="/v1/templates", tags=["templates"], route_class=StrictRoute)

UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")  # of pydantic's errors

Viewer = Annotated[Principal, requires(VIEW_JOBS, reach=Reach.ONE)]
Manager = Annotated[Principal, requires(MANAGE_TEMPLATES, reach=Reach.ONE)]
TemplateName = Annotated[fields.Segment, Path(alias="name")]


@router.post("", status_code=201, responses=openapi.TEMPLATE_CREATED, openapi_extra=openapi.HANDLERS)
def create_template(
    principal: Manager, platform: Served, new: templates.NewTemplate, *, origin: Came, response: Response
) -> Template:
    """Keep a template. Its payload may lack what its jobs have to say; what it says is checked with each of them."""
    _may(platform, principal, new.job_type, new.content)
    _require_known(platform, principal, new.job_type, new.content)
    with platform.database.begin() as connection:
        created = tracked.create(
            connection,
            new.content,
            template_id=uuid7(),
            organization_id=principal.organization,
            name=new.name,
            job_type=new.job_type,
            actor=principal.actor,
            origin=origin,
        )
    response.headers.update({"Location": f"/v1/templates/{quote(created.name, safe='')}", "ETag": _tag(created)})
    return Template.of(created)


@router.get("", responses=openapi.READ)
def list_templates(
    principal: Annotated[Principal, requires(VIEW_JOBS, reach=Reach.ALL)],
    read: Read,
    query: Annotated[templates.TemplatesQuery, Query()],
) -> templates.Templates:
    """The templates of the organization, by name."""
    if principal.everywhere:
        found = read(tracked.everywhere, after=query.cursor, size=query.limit + 1)
    else:
        found = read(tracked.page, principal.organization, after=query.cursor, size=query.limit + 1)
    return templates.Templates.of(found, query.limit, everywhere=principal.everywhere)


@router.get("/{name}", responses=openapi.TEMPLATE_READ)
def get_template(
    principal: Viewer,
    read: Read,
    name: TemplateName,
    query: Annotated[templates.TemplateQuery, Query()],
    response: Response,
) -> Template:
    """A template: its newest version, or an old one."""
    found = read(tracked.get, principal.organization, name, query.version)
    response.headers["ETag"] = _tag(found)
    return Template.of(found)


@router.get("/{name}/versions", responses=openapi.TEMPLATE)
def list_template_versions(
    principal: Viewer, read: Read, name: TemplateName, query: Annotated[templates.VersionsQuery, Query()]
) -> templates.TemplateVersions:
    """All versions of a template, newest first."""
    found = read(tracked.versions, principal.organization, name, before=query.cursor, size=query.limit + 1)
    return templates.TemplateVersions.of(found, query.limit)


@router.patch("/{name}", responses=openapi.TEMPLATE_CHANGED, openapi_extra=openapi.HANDLERS)
def change_template(
    principal: Manager,
    platform: Served,
    read: Read,
    name: TemplateName,
    said: templates.TemplateChange,
    *,
    origin: Came,
    response: Response,
    if_match: Annotated[str, Header()] = "*",
) -> Template:
    """Make the next version of a template. Jobs and old versions stay as they are."""
    known = read(tracked.get, principal.organization, name)
    if if_match.strip() != "*" and _tag(known) not in re.findall(r'"[^"]*"', if_match):
        raise TemplateChanged(f"If-Match does not name the newest version of the template {name!r}")
    content = said.applied(known.content)
    _may(platform, principal, known.job_type, content)
    _require_known(platform, principal, known.job_type, content)
    with platform.database.begin() as connection:
        changed = tracked.change(
            connection,
            principal.organization,
            name,
            content,
            known=known.version,
            actor=principal.actor,
            origin=origin,
        )
    response.headers["ETag"] = _tag(changed)
    return Template.of(changed)


@router.delete("/{name}", responses=openapi.TEMPLATE)
def remove_template(
    principal: Manager, platform: Served, name: TemplateName, origin: Came
) -> templates.TemplateRemoved:
    """Forget a template with all its versions. Its jobs stay; its schedules fail until they name another one."""
    with platform.database.begin() as connection:
        tracked.remove(connection, principal.organization, name, actor=principal.actor, origin=origin)
    return templates.TemplateRemoved(message="Template removed successfully")


@router.post("/{name}/jobs", status_code=202, responses=openapi.TEMPLATE_USED, openapi_extra=openapi.HANDLERS)
def create_template_job(
    principal: Annotated[Principal, requires(CREATE_JOBS)],
    platform: Served,
    read: Read,
    name: TemplateName,
    *,
    origin: Came,
    response: Response,
    body: Annotated[templates.TemplateJob | None, Body()] = None,
    idempotency_key: Annotated[fields.IdempotencyKey | None, Header()] = None,
) -> answers.Created:
    """Accept a job from a template. What both say together is checked by the handler."""
    said = body or templates.TemplateJob()
    template = read(tracked.get, principal.organization, name, said.version)
    principal.must_have(template.content.permission)
    payload, metadata = payload_of(template, said.payload), metadata_of(template, said.metadata)
    try:
        new = requests.NewJob(jobType=template.job_type, payload=payload, metadata=metadata, dependsOn=said.depends_on)  # type: ignore[call-arg]  # the names of JSON
    except ValidationError as error:
        raise invalid_by(error, outer=False) from None
    wishes = said.wishes(template, metadata, idempotency_key)
    submitted = submit(platform, principal, new, wishes, origin)
    response.headers.update(answers.created_headers(submitted))
    return answers.Created.of(submitted.job)


def _may(platform: Platform, principal: Principal, job_type: str, content: Content) -> None:
    """Raise Problem unless the caller has the permissions that a use of the template takes."""
    principal.must_have(offered(platform, job_type).permission)
    principal.must_have(content.permission)


def _require_known(platform: Platform, principal: Principal, job_type: str, content: Content) -> None:
    """Raise the 422 problem of fields that the handler does not know: no job can take them away again.

    What is missing or does not fit is for each job to say. Of a union, which has further errors, nothing is known.
    """
    try:
        offered(platform, job_type).accept(content.payload, principal.owner)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        unknown = [each for each in found if each["type"] in UNKNOWN and len(each["loc"]) == 1]
        if unknown:
            raise invalid(unknown, within="payload") from None


def _tag(template: TemplateRecord) -> str:
    return f'"{template.id.hex}-{template.version}"'
