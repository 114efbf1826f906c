"""Saved views, as they are asked for and answered."""

from __future__ import annotations

from uuid import UUID

from pydantic import ConfigDict, Field

from api.schemas.answers import Answered
from api.schemas.fields import Search, Words
from api.schemas.requests import Asked
from tracking.values import Instant


class NewView(Asked):
    """A search to keep."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Failed exports", "search": "status:failed type:export_report"}]}
    )

    name: Words
    search: Search = Field(description="As it is typed at the page of the jobs: words and qualifiers.")


class ViewChange(Asked):
    """What is changed of a view; the rest stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Exports that failed"}]})

    name: Words | None = None
    search: Search | None = None


class View(Answered):
    """A search that a user keeps under a name."""

    id: UUID = Field(description="Its address at the dashboard is `/views/` and this.")
    name: str
    search: str
    user_id: str
    created_at: Instant


class Views(Answered):
    """The views of the caller, by name: 50 at most."""

    views: list[View]


class RemovedView(Answered):
    """A view is gone."""

    message: str
