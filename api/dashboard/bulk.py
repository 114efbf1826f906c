"""The pages of bulk operations: a look at what one would touch, one with its progress, and those there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from api.auth import Principal
from api.dashboard.searching import understood
from api.dashboard.site import Visit, render
from api.problems import Problem, invalid_by
from api.routes import operations as routes
from api.schemas.operations import MOST_IDS, BulkRequest
from tracking.models import JobRecord
from tracking.operated import Action, State
from tracking.operations import reads
from tracking.operations.begin import preview

# What the pages call an action: to do it, and to how many jobs.
WORDS = {
    Action.CANCEL: "Cancel",
    Action.RETRY: "Retry",
    Action.REPRIORITIZE: "Set the priority of",
    Action.DELETE: "Delete",
}
# The colours of states are those of a job's statuses.
COLOURS = {
    State.CANARY: "retrying",
    State.RUNNING: "running",
    State.COMPLETED: "succeeded",
    State.STOPPED: "failed",
    State.ABORTED: "cancelled",
}
SHOWN = 50  # operations, or jobs that were not done


def actions_of(principal: Principal) -> dict[str, str]:
    """What somebody may do to many jobs, and what it is called."""
    granted = principal.permissions
    return {str(action): WORDS[action] for action in Action if routes.PERMISSIONS[action] in granted}


def new_page(visit: Visit) -> Response:
    """What an operation would touch, and what else there is to say of it before it begins."""
    query = visit.request.query_params
    chosen = {**query, "ids": ",".join(query.getlist("id"))}
    return _look(visit, chosen)


def begin(visit: Visit) -> Response:
    """Begin an operation, as `POST /v1/bulk` does; what makes no sense is said on the page of before."""
    try:
        asked = _asked(visit.form)
    except ValidationError as error:
        return _look(visit, visit.form, str(invalid_by(error).detail))
    response = Response()
    operation = routes.create_operation(
        visit.principal,
        visit.platform,
        visit.read,
        asked,
        origin=visit.origin,
        response=response,
        idempotency_key=visit.form.get("key") or None,
    )
    return RedirectResponse(f"/bulk/{operation.id}", 303)


def operation_page(visit: Visit) -> Response:
    """One operation: how far it is, and which jobs were not done and why."""
    operation_id = visit.request.path_params["id"]
    operation = visit.read(reads.get, operation_id, visit.principal.scope)
    undone = visit.read(reads.results, operation_id, wanted=("refused", "failed"), cursor=None, size=SHOWN)
    return render(
        visit.request,
        "bulk_body.html" if visit.request.query_params.get("part") == "body" else "bulk.html",
        principal=visit.principal,
        operation=operation,
        undone=undone,
        now=datetime.now(UTC),
        words=WORDS,
        colours=COLOURS,
        can_abort=routes.PERMISSIONS[operation.action] in visit.principal.permissions,
        last_event=visit.last_event,
    )


def operations_page(visit: Visit) -> Response:
    """The newest operations."""
    found = visit.read(reads.page, visit.principal.scope, states=(), cursor=None, size=SHOWN)
    values: dict[str, Any] = {"operations": found.operations, "words": WORDS, "colours": COLOURS}
    return render(
        visit.request,
        "bulks_body.html" if visit.request.query_params.get("part") == "body" else "bulks.html",
        principal=visit.principal,
        now=datetime.now(UTC),
        last_event=visit.last_event,
        **values,
    )


def abort(visit: Visit) -> Response:
    """End an operation, as `POST /v1/bulk/{id}/abort` does."""
    operation_id = visit.request.path_params["id"]
    routes.abort_operation(visit.principal, visit.platform, visit.read, operation_id, origin=visit.origin)
    return visit.done("The operation was aborted. What was done stays done.", f"/bulk/{operation_id}")


def _look(visit: Visit, chosen: Mapping[str, str], why_not: str | None = None) -> Response:
    known = actions_of(visit.principal)
    action = chosen.get("action", "")
    if action not in known:
        return RedirectResponse("/", 303)
    if chosen.get("which") != "all" and not chosen.get("ids"):
        return _show(visit, chosen, 0, (), "No job is selected.")
    try:
        asked = _asked({**chosen, "priority": chosen.get("priority") or "0"}, is_look=True)
        matched, sample = visit.read(preview, visit.principal.scope, asked.filters)
    except ValidationError as error:
        matched, sample = 0, []
        why_not = why_not or str(invalid_by(error).detail)
    except Problem as refused:
        matched, sample, why_not = 0, [], refused.detail
    return _show(visit, chosen, matched, sample, why_not)


def _show(
    visit: Visit, chosen: Mapping[str, str], matched: int, sample: Sequence[JobRecord], why_not: str | None
) -> Response:
    action = chosen["action"]
    return render(
        visit.request,
        "bulk_new.html",
        200 if why_not is None else 422,
        principal=visit.principal,
        chosen={name: chosen.get(name, "") for name in ("which", "q", "ids", "priority", "canary", "force")},
        action=action,
        word=WORDS[Action(action)],
        matched=matched,
        sample=sample,
        key=chosen.get("key") or str(uuid4()),
        why_not=why_not,
        now=datetime.now(UTC),
    )


def _asked(chosen: Mapping[str, str], *, is_look: bool = False) -> BulkRequest:
    """The request that a form makes. Raises ValidationError. `is_look`: whatever else is to be said of it, not yet."""
    said: dict[str, Any] = {"action": chosen.get("action")}
    if chosen.get("which") == "all":
        said["filter"] = dict(understood(chosen.get("q", "")).given)
    else:
        said["ids"] = [each for each in chosen.get("ids", "").split(",")[:MOST_IDS] if each]
    if said["action"] == Action.REPRIORITIZE:
        said["priority"] = _number(chosen.get("priority"))
    if said["action"] == Action.RETRY and not is_look:
        said |= {"canary": _number(chosen.get("canary")), "force": chosen.get("force") == "on"}
    return BulkRequest.model_validate(said)


def _number(text: str | None) -> int | str | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else text or None  # noqa: PLR2004
