"""What people do with workflows: create, cancel, retry. Each wants a transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking import audit
from tracking.admission.rule import Limits
from tracking.audit import Deed
from tracking.audited import Action
from tracking.errors import IdempotencyConflict, IllegalWorkflowMove, WorkflowNotFound
from tracking.jobs.bulk import submit_together
from tracking.jobs.cancel import cancelled_row, cancelling
from tracking.models import Cancelled, JobRecord, NewJob, Scope
from tracking.origins import By
from tracking.sql import SCOPE, listed, own
from tracking.states import ACTIVE, Status
from tracking.workflows import reads
from tracking.workflows.concluding import conclude
from tracking.workflows.graph import following
from tracking.workflows.values import DONE, Begun, NewWorkflow, Node, NodeState, Workflow

PATIENCE = 2  # seconds until a body that is stopping may be over


def create(connection: Connection, new: NewWorkflow, limits: Limits, *, by: By) -> Begun:
    """Accept a workflow with all its jobs. Raises IdempotencyConflict when the key was used for another one."""
    parameters = {
        "id": new.id,
        "organization_id": new.owner.organization_id,
        "user_id": new.owner.user_id,
        "name": new.name,
        "project_id": new.project_id,
        "idempotency_key": new.idempotency_key,
        "request_hash": new.request_hash,
    }
    if connection.execute(CREATE, parameters).first() is None:
        existing = connection.execute(EXISTING, parameters).one()
        if existing.request_hash != new.request_hash:
            raise IdempotencyConflict
        return Begun(existing.id, {}, created=False)
    made = _submit(connection, [job for _, job in new.jobs], limits)
    rows = [{"workflow_id": new.id, "place": place, **_row(*each)} for place, each in enumerate(new.jobs)]
    connection.execute(KEEP, {"rows": json.dumps(rows, default=str)})
    deed = Deed(
        Action.CREATE_WORKFLOW,
        by.actor,
        new.owner.organization_id,
        str(new.id),
        detail={"name": new.name, "jobs": len(new.jobs)},
    )
    audit.write(connection, by.origin, deed)
    return Begun(new.id, {node.key: made[job.id] for node, job in new.jobs}, created=True)


def is_known(connection: Connection, new: NewWorkflow) -> bool:
    """Whether a workflow was accepted under its key."""
    asked = {
        "organization_id": new.owner.organization_id,
        "user_id": new.owner.user_id,
        "idempotency_key": new.idempotency_key,
    }
    return new.idempotency_key is not None and connection.execute(EXISTING, asked).first() is not None


def cancel(
    connection: Connection, workflow_id: UUID, scope: Scope, *, reason: str | None, by: By
) -> tuple[Workflow, Sequence[Cancelled]]:
    """End all that a workflow has not ended, and what its jobs have sent; it as it is now, and what was ended.

    Raises WorkflowNotFound, or IllegalWorkflowMove when it is over.
    """
    _lock(connection, workflow_id, scope)
    known = reads.get(connection, workflow_id, scope)
    why = f"the workflow {known.name!r} was cancelled" + (f": {reason}" if reason else "")
    parameters = {"workflow_id": workflow_id, "organization_id": scope.organization_id}
    rows = connection.execute(CANCEL_JOBS, {**parameters, "actor": by.actor, "reason": why}).all()
    if not rows and known.is_over:
        raise IllegalWorkflowMove(f"the workflow {workflow_id} is {known.status}: it is over and cannot be cancelled")
    connection.execute(CANCEL, {"id": workflow_id, "actor": by.actor, "reason": reason})
    detail = {"name": known.name, "jobs": len(rows)}
    _tell(connection, Action.CANCEL_WORKFLOW, known, by, detail)
    conclude(connection, 1, workflow_id)
    return reads.get(connection, workflow_id, scope), [cancelled_row(row) for row in rows]


def to_retry(connection: Connection, workflow_id: UUID, scope: Scope, *, whole: bool) -> Sequence[NodeState]:
    """Lock a workflow that is over; all its jobs, whose latest run a retry of it replaces.

    Those of the failed part have failed or were cancelled, or follow such a one. Raises WorkflowNotFound, or
    IllegalWorkflowMove: it is not over, no part of it has failed, or a result that is needed was removed.
    """
    _lock(connection, workflow_id, scope)
    known = reads.get(connection, workflow_id, scope)
    jobs = reads.jobs_of(connection, workflow_id)
    if not known.is_over:
        waits = PATIENCE if any(job.stopping for job in jobs) else None
        raise IllegalWorkflowMove(f"the workflow {workflow_id} is {known.status}: it is not over", retry_after=waits)
    part = chosen(jobs, whole=whole)
    if not part:
        raise IllegalWorkflowMove(f"no job of the workflow {workflow_id} has failed or was cancelled")
    wanted = {after.key for job in jobs if job.node.key in part for after in job.node.after} - part
    gone = sorted(job.node.key for job in jobs if job.is_gone and job.node.key in wanted)
    if gone:
        raise IllegalWorkflowMove(f"the job {gone[0]!r} of the workflow was removed, with its result: retry the whole")
    return jobs


def chosen(jobs: Sequence[NodeState], *, whole: bool) -> set[str]:
    """The keys of the jobs that are made anew."""
    nodes = [job.node for job in jobs]
    return {node.key for node in nodes} if whole else following(nodes, _failed(jobs))


def retry(
    connection: Connection, workflow_id: UUID, scope: Scope, new: Mapping[str, NewJob], limits: Limits, *, by: By
) -> Begun:
    """Let these jobs do in a next run what those with their keys did, which stay as they ended.

    The caller has locked it by `to_retry`.
    """
    made = _submit(connection, list(new.values()), limits)
    replaced = [{"key": key, "job_id": job.id} for key, job in new.items()]
    parameters = {"id": workflow_id, "rows": json.dumps(replaced, default=str)}
    connection.execute(LINK, parameters)
    connection.execute(REPLACE, parameters)
    connection.execute(NEXT_RUN, {"id": workflow_id})
    known = reads.get(connection, workflow_id, scope)
    _tell(connection, Action.RETRY_WORKFLOW, known, by, {"name": known.name, "jobs": len(new), "run": known.run})
    return Begun(workflow_id, {key: made[job.id] for key, job in new.items()}, created=True)


def _submit(connection: Connection, new: Sequence[NewJob], limits: Limits) -> Mapping[UUID, JobRecord]:
    return {job.id: job for job in submit_together(connection, new, limits)}


def _failed(jobs: Sequence[NodeState]) -> set[str]:
    return {job.node.key for job in jobs if job.status not in DONE}


def _lock(connection: Connection, workflow_id: UUID, scope: Scope) -> None:
    if connection.execute(LOCK, {"id": workflow_id, **scope.parameters}).first() is None:
        raise WorkflowNotFound


def _row(node: Node, job: NewJob) -> dict[str, Any]:
    return {
        "key": node.key,
        "job_id": job.id,
        "job_type": node.job_type,
        "payload": dict(node.payload),
        "after": [{"key": after.key, "when": str(after.when)} for after in node.after],
        "priority": node.priority,
        "max_retries": node.max_retries,
        "scheduled_at": node.scheduled_at,
        "message": node.message,
        "metadata": dict(node.metadata),
    }


def _tell(connection: Connection, action: Action, workflow: Workflow, by: By, detail: Mapping[str, Any]) -> None:
    deed = Deed(action, by.actor, workflow.owner.organization_id, str(workflow.id), detail=detail)
    audit.write(connection, by.origin, deed)


LOCK = text(f"SELECT id FROM workflows WHERE id = :id AND {SCOPE} FOR UPDATE")

CREATE = text(
    f"""
    INSERT INTO workflows (id, organization_id, user_id, name, project_id, status, idempotency_key, request_hash)
    VALUES (:id, :organization_id, :user_id, :name, :project_id, '{Status.RUNNING}', :idempotency_key, :request_hash)
    ON CONFLICT (organization_id, user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id"""
)

EXISTING = text(
    f"""
    SELECT id, request_hash FROM workflows
    WHERE {own()} AND user_id = :user_id
      AND idempotency_key = CAST(:idempotency_key AS text)"""
)

_NAMES = "key, job_id, job_type, payload, after, priority, max_retries, scheduled_at, message, metadata"

KEEP = text(
    f"""
    INSERT INTO workflow_jobs (workflow_id, place, {_NAMES})
    SELECT workflow_id, place, {_NAMES} FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS asked (
        workflow_id uuid, place int, key text, job_id uuid, job_type text, payload jsonb, after jsonb,
        priority smallint, max_retries int, scheduled_at timestamptz, message text, metadata jsonb)"""
)

# In the order of their ids: whoever locks many does it so.
CANCEL_JOBS = cancelling(
    f"""root_id = :workflow_id AND root_id <> id AND {own()}
        AND status IN ({listed(ACTIVE)}) ORDER BY id"""
)

CANCEL = text(
    """
    UPDATE workflows SET cancelled_by = :actor, reason = :reason, updated_at = clock_timestamp() WHERE id = :id"""
)

_ROWS = "jsonb_to_recordset(CAST(:rows AS jsonb)) AS made (key text, job_id uuid)"

LINK = text(
    f"""
    UPDATE jobs SET retry_of = node.job_id
    FROM {_ROWS} JOIN workflow_jobs AS node ON node.workflow_id = :id AND node.key = made.key
    WHERE jobs.id = made.job_id"""
)

REPLACE = text(
    f"""
    UPDATE workflow_jobs
    SET job_id = made.job_id, ended = NULL,
        run = (SELECT run + 1 FROM workflows WHERE workflows.id = workflow_jobs.workflow_id)
    FROM {_ROWS}
    WHERE workflow_jobs.workflow_id = :id AND workflow_jobs.key = made.key"""
)

NEXT_RUN = text(
    f"""
    UPDATE workflows
    SET run = run + 1, status = '{Status.RUNNING}', completed_at = NULL, told_at = NULL, cancelled_by = NULL,
        reason = NULL, updated_at = clock_timestamp()
    WHERE id = :id"""
)
