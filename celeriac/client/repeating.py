"""The client's requests about what is asked for again and again: schedules and templates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack
from urllib.parse import quote
from uuid import UUID

from pydantic.alias_generators import to_camel

from celeriac.client.answers import Created
from celeriac.client.bulk import Said, said_of
from celeriac.client.calling import Flow, Steps, call, listing, picked
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
from celeriac.client.transport import Requests, given


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


class RepeatingRequests(Requests):
    """Requests about schedules and templates. What changes something is not repeated, unless it says so."""

    @call
    def create_schedule(self, name: str, **said: Unpack[NewSchedule]) -> Steps[Schedule]:
        """Have jobs made at the times of `cron`, or `every_seconds`; "schedule_exists" when the name is taken."""
        return self._ask(Schedule, "POST", "/v1/schedules", json={"name": name, **in_json(said)})

    @listing
    def schedules(self) -> Flow[Schedule]:
        """The schedules, by name, each once."""
        return self._pages(Schedules, "/v1/schedules", lambda page: page.schedules)

    @call
    def schedule(self, schedule_id: UUID) -> Steps[Schedule]:
        return self._get(Schedule, f"/v1/schedules/{schedule_id}")

    @call
    def change_schedule(self, schedule_id: UUID, **changes: Unpack[ScheduleChange]) -> Steps[Schedule]:
        """Change what is named; with other times it is due from now on."""
        return self._ask(Schedule, "PATCH", f"/v1/schedules/{schedule_id}", json=in_json(changes))

    @call
    def remove_schedule(self, schedule_id: UUID) -> Steps[None]:
        """Forget a schedule; its jobs stay."""
        return self._tell("DELETE", f"/v1/schedules/{schedule_id}")

    @call
    def pause_schedule(self, schedule_id: UUID) -> Steps[Schedule]:
        """Nothing is due until it is resumed, and that is not made up for. Repeated: a second pause changes nothing."""
        return self._repeat(Schedule, "POST", f"/v1/schedules/{schedule_id}/pause")

    @call
    def resume_schedule(self, schedule_id: UUID) -> Steps[Schedule]:
        """End that pause; repeated like it."""
        return self._repeat(Schedule, "POST", f"/v1/schedules/{schedule_id}/resume")

    @call
    def run_schedule(self, schedule_id: UUID) -> Steps[Created]:
        """Have a job made now; the due times stay as they are."""
        return self._ask(Created, "POST", f"/v1/schedules/{schedule_id}/run")

    @call
    def skip_next(self, schedule_id: UUID) -> Steps[Schedule]:
        """Let the next due time make no job; a second call skips the one after it."""
        return self._ask(Schedule, "POST", f"/v1/schedules/{schedule_id}/skip-next")

    @call
    def next_times(self, schedule_id: UUID) -> Steps[tuple[datetime, ...]]:
        """The next five due times; none while it is paused."""
        return picked(self._get(DueTimes, f"/v1/schedules/{schedule_id}/next"), lambda answer: answer.times)

    @listing
    def outcomes(self, schedule_id: UUID) -> Flow[Outcome]:
        """What became of its due times, newest first."""
        return self._pages(Outcomes, f"/v1/schedules/{schedule_id}/outcomes", lambda page: page.outcomes)

    @call
    def create_template(self, name: str, job_type: str, **content: Unpack[TemplateContent]) -> Steps[Template]:
        """Keep a job that is asked for again and again; "template_exists" when the name is taken."""
        body = {"name": name, "jobType": job_type, **in_json(content)}
        return self._ask(Template, "POST", "/v1/templates", json=body)

    @listing
    def templates(self) -> Flow[Template]:
        """The newest version of each template, by name."""
        return self._pages(Templates, "/v1/templates", lambda page: page.templates)

    @call
    def template(self, name: str, version: int | None = None) -> Steps[Template]:
        """The newest version of a template, or that one."""
        return self._get(Template, _template(name), **given({"version": version}))

    @listing
    def template_versions(self, name: str) -> Flow[Template]:
        """All versions of a template, newest first."""
        return self._pages(TemplateVersions, f"{_template(name)}/versions", lambda page: page.versions)

    @call
    def change_template(self, name: str, **content: Unpack[TemplateContent]) -> Steps[Template]:
        """Make the next version, of what is named and the rest of the newest."""
        return self._ask(Template, "PATCH", _template(name), json=in_json(content))

    @call
    def remove_template(self, name: str) -> Steps[None]:
        """Forget a template with its versions; its jobs stay."""
        return self._tell("DELETE", _template(name))

    @call
    def create_from(
        self,
        name: str,
        payload: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        **said: Unpack[Said],
    ) -> Steps[Created]:
        """Have a job of a template accepted, with this `payload` on top of its own. Repeated like `create`."""
        body = {**given({"version": version}), **said_of(payload, said)}
        return self._create(Created, f"{_template(name)}/jobs", body, said.get("idempotency_key"))


def in_json(said: Mapping[str, Any]) -> dict[str, Any]:
    """The same by the names of the API; None says that something is unset."""
    return {to_camel(name): in_json(value) if name == "schedule" and value else value for name, value in said.items()}


def _template(name: str) -> str:
    return f"/v1/templates/{quote(name, safe='')}"
