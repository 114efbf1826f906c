"""The audit, as it is asked for and answered."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from pydantic.alias_generators import to_camel

from api.schemas.answers import Answered
from api.schemas.fields import GivenInstant, Limit, Listed, Name
from api.schemas.requests import Elsewhere
from tracking.audit import Entry as EntryRecord
from tracking.audit import Sought
from tracking.audited import Action, Outcome
from tracking.origins import Source
from tracking.values import MAX_INTEGER, Instant

MOST_EXPORTED = 10_000
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class AuditFilters(Elsewhere):
    """Which entries of the audit."""

    actor: Name | None = None
    action: Annotated[tuple[Action, ...], Listed, Field(max_length=len(Action))] = ()
    target: Name | None = Field(default=None, description="The id of a job, or the name of a type or an organization.")
    source: Source | None = None
    outcome: Outcome | None = None
    from_: GivenInstant | None = Field(default=None, alias="from", description="At or after it.")
    to: GivenInstant | None = Field(default=None, description="Before it.")
    cursor: int | None = Field(default=None, ge=1, le=MAX_INTEGER, description="What follows it, which is older.")

    def sought(self, organization_id: str | None, *, by_operator: bool) -> Sought:
        return Sought(
            organization_id=organization_id,
            actor=self.actor,
            strangers=by_operator,
            actions=self.action,
            target=self.target,
            source=self.source,
            outcome=self.outcome,
            after=self.from_,
            before=self.to,
        )


class AuditQuery(AuditFilters):
    """Which entries of the audit, and how many."""

    limit: Limit = 100


class ExportQuery(AuditFilters):
    """Which entries of the audit, how many, and in which format."""

    limit: Annotated[int, Field(ge=1, le=MOST_EXPORTED)] = MOST_EXPORTED
    format: Literal["csv", "jsonl"] = "csv"


class Entry(Answered):
    """Something that somebody did, or tried to do."""

    id: int
    at: Instant
    organization_id: str | None = Field(description="Whom it concerns; null: all organizations.")
    actor: str | None = Field(description="null: an operator of the platform.")
    action: Action
    target: str | None = Field(description="The id of a job, or the name of a type or an organization.")
    source: Source
    address: str | None
    request_id: str | None
    outcome: Outcome
    code: str | None = Field(description="Why it was denied or refused, as in docs/errors.md.")
    detail: dict[str, Any]

    @classmethod
    def of(cls, entry: EntryRecord, *, by_operator: bool) -> Self:
        """The entry as a caller may see it: of a stranger to the organization only operators see who it was."""
        shown = cls.model_validate(entry)
        is_own = entry.organization_id == entry.actor_organization_id or entry.actor_organization_id is None
        if by_operator or is_own:
            return shown
        return shown.model_copy(update={"actor": None, "address": None, "request_id": None})


class Audit(Answered):
    """A page of the audit, newest first."""

    entries: list[Entry]
    next_cursor: int | None = Field(description="Where the next page begins; null: there is none.")


def as_lines(entries: Sequence[Entry]) -> str:
    """A JSON object for each entry, a line each, also for readers that take U+2028 and the like for the end of one."""
    return "".join(f"{entry.model_dump_json(by_alias=True, ensure_ascii=True)}\n" for entry in entries)


def as_csv(entries: Sequence[Entry]) -> str:
    """A row for each entry, with a head; a text that a spreadsheet would calculate begins with an apostrophe."""
    written = io.StringIO()
    rows = csv.writer(written)
    names = list(Entry.model_fields)
    rows.writerow(map(to_camel, names))
    for entry in entries:
        values = entry.model_dump(mode="json")
        values["detail"] = entry.model_dump_json(include={"detail"})[len('{"detail":') : -1]
        rows.writerow([_cell(values[name]) for name in names])
    return written.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
