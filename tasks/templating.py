"""What a template and those who use it say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tasks.platform import Platform
from tracking import templates
from tracking.models import JsonObject
from tracking.schedules.values import Plan
from tracking.templates import Template
from tracking.values import check_json

# What the metadata of a job says of the template that it is made from.
TEMPLATE = "template"
VERSION = "templateVersion"


def merged(below: JsonObject, above: JsonObject) -> dict[str, Any]:
    """The one with what the other says: objects are merged at every depth, all else is replaced, by null too."""
    both = dict(below)
    for name, value in above.items():
        is_object = isinstance(value, Mapping) and isinstance(both.get(name), Mapping)
        both[name] = merged(both[name], value) if is_object else value
    return both


def payload_of(template: Template, payload: JsonObject) -> dict[str, Any]:
    """The payload of a job, with what is said of it. Raises InvalidValue beyond the limits of a payload."""
    both: dict[str, Any] = check_json(merged(template.content.payload, payload), "payload")
    return both


def metadata_of(template: Template, metadata: JsonObject) -> dict[str, Any]:
    """The metadata of a job, with the template that it comes from."""
    return {**merged(template.content.metadata, metadata), TEMPLATE: template.name, VERSION: template.version}


def resolved(platform: Platform, organization_id: str, plan: Plan) -> tuple[Plan, Template | None]:
    """What a schedule says, with what its template says now; None: it has none. Raises TemplateNotFound."""
    if plan.template is None:
        return plan, None
    with platform.database.autocommit() as connection:
        template = templates.get(connection, organization_id, plan.template)
    content = template.content
    together = replace(
        plan,
        job_type=template.job_type,
        payload=payload_of(template, plan.payload),
        metadata=metadata_of(template, plan.metadata),
        priority=content.priority if plan.priority is None else plan.priority,
        max_retries=content.max_retries if plan.max_retries is None else plan.max_retries,
    )
    return together, template
