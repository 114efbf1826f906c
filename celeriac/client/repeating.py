"""The client's requests about what is asked for again and again: schedules and templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack
from urllib.parse import quote
from uuid import UUID, uuid4

from pydantic.alias_generators import to_camel

from celeriac.client.answers import Created
from celeriac.client.bulk import NewJob, said_of
from celeriac.client.kept import (
    DueTimes,
    Outcome,
    Outcomes,
    Schedule,
    Schedules,
    Template,
    Templates,
    TemplateVersions,
)
from celeriac.client.transport import Transport, given, read


class Times(TypedDict, total=False):
    """When a schedule is due: by `cron`, in an IANA `timezone`, or `every_seconds`; and what happens then."""

    cron: str | None
    timezone: str | None
    every_seconds: int | None
    catch_up: Literal["skip", "once", "all"]
    overlap: Literal["allow", "skip", "cancel_previous"]


class Planned(Times, total=False):
    """What may be said of a schedule."""

    payload: Mapping[str, Any]
    priority: int | None
    max_retries: int | None
    project_id: str | None
    metadata: Mapping[str, Any]


class NewSchedule(Planned, total=False):
    """What may be said of a new one: of a `job_type`, or of a `template`."""

    job_type: str
    template: str
    paused: bool


class ScheduleChange(Planned, total=False):
    """What may be changed of one; None unsets what may be unset."""

    name: str
    job_type: str


class TemplateContent(TypedDict, total=False):
    """What a template says; None unsets it."""

    payload: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    priority: int | None
    max_retries: int | None
    permission: str | None
    schedule: Times | None


class RepeatingRequests(Transport):
    """Requests about schedules and templates. What changes something is not repeated, unless it says so."""

    def create_schedule(self, name: str, **said: Unpack[NewSchedule]) -> Schedule:
        """Have jobs made at the times of `cron`, or `every_seconds`; "schedule_exists" when the name is taken."""
        return read(Schedule, self._ask("POST", "/v1/schedules", json={"name": name, **in_json(said)}))

    def schedules(self) -> Iterator[Schedule]:
        """The schedules, by name, each once."""
        for page in self._pages(Schedules, "/v1/schedules"):
            yield from page.schedules

    def schedule(self, schedule_id: UUID) -> Schedule:
        return self._get(Schedule, f"/v1/schedules/{schedule_id}")

    def change_schedule(self, schedule_id: UUID, **changes: Unpack[ScheduleChange]) -> Schedule:
        """Change what is named; with other times it is due from now on."""
        return read(Schedule, self._ask("PATCH", f"/v1/schedules/{schedule_id}", json=in_json(changes)))

    def remove_schedule(self, schedule_id: UUID) -> None:
        """Forget a schedule; its jobs stay."""
        self._ask("DELETE", f"/v1/schedules/{schedule_id}")

    def pause_schedule(self, schedule_id: UUID) -> Schedule:
        """Nothing is due until it is resumed, and that is not made up for. Repeated: a second pause changes nothing."""
        return read(Schedule, self._repeat("POST", f"/v1/schedules/{schedule_id}/pause"))

    def resume_schedule(self, schedule_id: UUID) -> Schedule:
        """End that pause; repeated like it."""
        return read(Schedule, self._repeat("POST", f"/v1/schedules/{schedule_id}/resume"))

    def run_schedule(self, schedule_id: UUID) -> Created:
        """Have a job made now; the due times stay as they are."""
        return read(Created, self._ask("POST", f"/v1/schedules/{schedule_id}/run"))

    def skip_next(self, schedule_id: UUID) -> Schedule:
        """Let the next due time make no job; a second call skips the one after it."""
        return read(Schedule, self._ask("POST", f"/v1/schedules/{schedule_id}/skip-next"))

    def next_times(self, schedule_id: UUID) -> tuple[datetime, ...]:
        """The next five due times; none while it is paused."""
        return self._get(DueTimes, f"/v1/schedules/{schedule_id}/next").times

    def outcomes(self, schedule_id: UUID) -> Iterator[Outcome]:
        """What became of its due times, newest first."""
        for page in self._pages(Outcomes, f"/v1/schedules/{schedule_id}/outcomes"):
            yield from page.outcomes

    def create_template(self, name: str, job_type: str, **content: Unpack[TemplateContent]) -> Template:
        """Keep a job that is asked for again and again; "template_exists" when the name is taken."""
        body = {"name": name, "jobType": job_type, **in_json(content)}
        return read(Template, self._ask("POST", "/v1/templates", json=body))

    def templates(self) -> Iterator[Template]:
        """The newest version of each template, by name."""
        for page in self._pages(Templates, "/v1/templates"):
            yield from page.templates

    def template(self, name: str, version: int | None = None) -> Template:
        """The newest version of a template, or that one."""
        return self._get(Template, _template(name), **given({"version": version}))

    def template_versions(self, name: str) -> Iterator[Template]:
        """All versions of a template, newest first."""
        for page in self._pages(TemplateVersions, f"{_template(name)}/versions"):
            yield from page.versions

    def change_template(self, name: str, **content: Unpack[TemplateContent]) -> Template:
        """Make the next version, of what is named and the rest of the newest."""
        return read(Template, self._ask("PATCH", _template(name), json=in_json(content)))

    def remove_template(self, name: str) -> None:
        """Forget a template with its versions; its jobs stay."""
        self._ask("DELETE", _template(name))

    def create_from(
        self,
        name: str,
        payload: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        priority: int | None = None,
        max_retries: int | None = None,
        scheduled_at: datetime | None = None,
        depends_on: Sequence[UUID] = (),
        project_id: str | None = None,
        message: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Created:
        """Have a job of a template accepted, with this `payload` on top of its own. Repeated like `create`."""
        job = NewJob(
            payload=payload,
            priority=priority,
            max_retries=max_retries,
            scheduled_at=scheduled_at,
            depends_on=depends_on,
            project_id=project_id,
            message=message,
            metadata=metadata,
        )
        body = {**given({"version": version}), **said_of(job)}
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return read(Created, self._repeat("POST", f"{_template(name)}/jobs", json=body, headers=headers))


def in_json(said: Mapping[str, Any]) -> dict[str, Any]:
    """The same by the names of the API; None says that something is unset."""
    return {to_camel(name): in_json(value) if name == "schedule" and value else value for name, value in said.items()}


def _template(name: str) -> str:
    return f"/v1/templates/{quote(name, safe='')}"
