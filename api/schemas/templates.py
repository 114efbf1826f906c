"""Templates, as they are asked for and answered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Annotated, Any, Self, cast
from uuid import UUID

from pydantic import ConfigDict, Field

from api.schemas.answers import Answered
from api.schemas.fields import JsonObject, KeptInstant, Limit, Name, Payload, Place, Priority, Segment, Text, Whole
from api.schemas.requests import Asked, Elsewhere, InAnother
from api.schemas.schedules import TemplateTimes, behind
from tracking.models import Wishes
from tracking.templates import Content
from tracking.templates import Template as TemplateRecord
from tracking.values import MAX_STEPS, MOST_DEPENDENCIES, Instant

CONTENT = [each.name for each in fields(Content)]


class TemplateChange(Asked):
    """What is changed of a template; the rest stays. null for what may be unset unsets it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"payload": {"format": "xlsx"}}, {"priority": 9}]})

    payload: JsonObject | None = Field(default=None, description="Replaces the whole of it.")
    metadata: JsonObject | None = Field(default=None, description="Replaces the whole of it.")
    priority: Annotated[int | None, Whole] = Field(default=None, strict=True, ge=0, le=9)
    max_retries: Annotated[int | None, Whole] = Field(default=None, strict=True, ge=0, le=100)
    permission: Name | None = Field(default=None, description="Needed to use it, besides the handler's own.")
    schedule: TemplateTimes | None = Field(default=None, description="When its schedules are due that do not say it.")

    def applied(self, content: Content) -> Content:
        """The content as it is to be."""
        said = {each.name: getattr(self, each.name) for each in fields(Content) if each.name in self.model_fields_set}
        if self.schedule is not None:
            said["schedule"] = self.schedule.model_dump(mode="json", by_alias=True, exclude_unset=True)
        of_nothing = Content()
        return replace(
            content, **{name: getattr(of_nothing, name) if value is None else value for name, value in said.items()}
        )


class NewTemplate(TemplateChange):
    """A template to create."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "monthly-report",
                    "jobType": "export_report",
                    "payload": {"reportType": "jobs"},
                    "priority": 3,
                },
            ],
        }
    )

    name: Segment = Field(description="Unique in the organization; it stands in addresses.")
    job_type: Name
    payload: JsonObject | None = Field(default=None, description="What its jobs say unless they say otherwise.")
    metadata: JsonObject | None = Field(default=None, description="Kept with each job.")

    @property
    def content(self) -> Content:
        return self.applied(Content())


class TemplateJob(Asked):
    """A job to create from a template, and what it says on top of that."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"payload": {"filters": {"status": "failed"}}}]})

    version: int | None = Field(default=None, ge=1, le=MAX_STEPS, description="Unset: the newest one.")
    payload: JsonObject = Field(
        default={}, description="Objects are merged with those of the template, all else replaces."
    )
    priority: Annotated[int | None, Whole] = Field(default=None, strict=True, ge=0, le=9)
    max_retries: Annotated[int | None, Whole] = Field(default=None, strict=True, ge=0, le=100)
    scheduled_at: KeptInstant | None = Field(default=None, description="Not to be started earlier.")
    depends_on: list[UUID] = Field(default=[], max_length=MOST_DEPENDENCIES, description="As of any job.")
    project_id: Segment | None = None
    message: Text | None = None
    metadata: JsonObject = Field(default={}, description="Merged like the payload.")

    def wishes(self, template: TemplateRecord, metadata: JsonObject, idempotency_key: str | None) -> Wishes:
        """What it and the template say beside type and payload; two requests that ask for the same have one hash."""
        content, named = template.content, ("scheduled_at", "depends_on", "project_id", "message")
        asked = f"{template.name}\n{self.model_dump_json(by_alias=True, exclude_defaults=True)}"
        said: dict[str, Any] = {
            **{name: getattr(self, name) for name in named},
            "priority": content.priority if self.priority is None else self.priority,
            "max_retries": content.max_retries if self.max_retries is None else self.max_retries,
            "metadata": metadata,
            "idempotency_key": idempotency_key,
            "request_hash": None if idempotency_key is None else hashlib.sha256(asked.encode()).hexdigest(),
        }
        return cast("Wishes", said)


class TemplateQuery(InAnother):
    """Which version of a template."""

    version: int | None = Field(default=None, ge=1, le=MAX_STEPS, description="Unset: the newest one.")


class TemplatesQuery(Elsewhere):
    """Which templates."""

    limit: Limit = 50
    cursor: Place | None = Field(default=None, description="Those that follow this nextCursor.")


class VersionsQuery(InAnother):
    """Which versions of a template."""

    limit: Limit = 50
    cursor: int | None = Field(default=None, ge=1, le=MAX_STEPS, description="Those before this nextCursor.")


class Template(Answered):
    """A version of a template."""

    id: UUID
    organization_id: str
    name: str
    job_type: str
    version: int
    newest: int = Field(description="The number of the newest version.")
    payload: Payload
    metadata: dict[str, Any]
    priority: Priority | None
    max_retries: int | None
    permission: str | None
    schedule: dict[str, Any]
    changed_by: str
    changed_at: Instant
    created_at: Instant

    @classmethod
    def of(cls, template: TemplateRecord) -> Self:
        """The template as clients see it."""
        content = {name: getattr(template.content, name) for name in CONTENT}
        return cls(**content, **{name: getattr(template, name) for name in cls.model_fields if name not in content})


class Templates(Answered):
    """A page of templates, each in its newest version, by name; of all organizations, by these first."""

    templates: list[Template]
    next_cursor: str | None = Field(description="Where the next page begins; null: there is none.")

    @classmethod
    def of(cls, found: Sequence[TemplateRecord], size: int, *, everywhere: bool) -> Self:
        """At most `size` of those that were found, and where the others begin."""
        shown = [Template.of(each) for each in found[:size]]
        return cls(templates=shown, next_cursor=behind(shown[-1], everywhere=everywhere) if len(found) > size else None)


class TemplateVersions(Answered):
    """A page of the versions of a template, newest first."""

    versions: list[Template]
    next_cursor: int | None = Field(description="Where the next page begins; null: there is none.")

    @classmethod
    def of(cls, found: Sequence[TemplateRecord], size: int) -> Self:
        """At most `size` of those that were found, and where the others begin."""
        shown = [Template.of(each) for each in found[:size]]
        return cls(versions=shown, next_cursor=shown[-1].version if len(found) > size else None)


class TemplateRemoved(Answered):
    """A template was removed."""

    message: str
