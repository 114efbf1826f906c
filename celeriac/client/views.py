"""The client's requests about saved views: searches of the list of jobs that a user keeps under names."""

from __future__ import annotations

from uuid import UUID

from celeriac.client.answers import Answer
from celeriac.client.calling import Steps, call, picked
from celeriac.client.transport import Requests, given
from tracking.values import Instant


class View(Answer):
    """A search that a user keeps under a name: `jobs(search=view.search)` has what it finds."""

    id: UUID
    name: str
    search: str
    user_id: str
    created_at: Instant


class Views(Answer):
    """All views of the caller."""

    views: tuple[View, ...]


class ViewRequests(Requests):
    """Requests about saved views. What changes something is not repeated."""

    @call
    def save_view(self, name: str, search: str) -> Steps[View]:
        """Keep a search; "view_exists" when the caller has one of this name."""
        return self._ask(View, "POST", "/v1/views", json={"name": name, "search": search})

    @call
    def views(self) -> Steps[tuple[View, ...]]:
        """The caller's own views, by name."""
        return picked(self._get(Views, "/v1/views"), lambda answer: answer.views)

    @call
    def view(self, view_id: UUID) -> Steps[View]:
        """A view of anybody of the organization."""
        return self._get(View, f"/v1/views/{view_id}")

    @call
    def change_view(self, view_id: UUID, *, name: str | None = None, search: str | None = None) -> Steps[View]:
        """Rename a view, or have it find something else; None: as it is."""
        return self._ask(View, "PATCH", f"/v1/views/{view_id}", json=given({"name": name, "search": search}))

    @call
    def remove_view(self, view_id: UUID) -> Steps[None]:
        """Forget a view; nothing that it finds is touched."""
        return self._tell("DELETE", f"/v1/views/{view_id}")
