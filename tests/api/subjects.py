"""What there is that an operation of the API is asked about, of one organization: one of each kind."""

from __future__ import annotations

from uuid import UUID, uuid4, uuid5

from tests.api.calling import Api, Caller
from tracking.models import JobRecord
from tracking.origins import Origin, Source

STATES = {
    "list_errors": "failed",
    "mark_error": "failed",
    "retry_job": "failed",
    "job_history": "failed",
    "get_export": "succeeded",
}


def made(api: Api, operation: str) -> tuple[Caller, JobRecord]:
    """Somebody in a new organization, and a job of theirs; all else has its id, which is all that a path needs."""
    owner = api.caller()
    job_id = uuid4()
    name = f"{job_id}-1.csv"
    job = owner.job(
        STATES.get(operation, "queued"),
        id=job_id,
        job_type="guarded",
        payload={"kind": "small"},
        project_id=f"project-{job_id}",
        result={"downloadUrl": f"/v1/exports/{name}"},
        external=operation == "change_job",
        queue="aside" if operation.endswith("_queue") else "default",
        origin=Origin(Source.API, owner.organization),
    )
    if "operation" in operation:
        owner.operation(job_id)
    owner.file(job_id)
    owner.schedule(job_id, operation)
    owner.template(uuid4(), name)
    owner.webhook(job_id)
    owner.job_limit(job_id)
    owner.view(job_id, str(job_id))
    owner.denial(job_id)
    if "workflow" in operation:
        owner.workflow(job_id, "cancelled" if operation == "retry_workflow" else "queued")
    owner.delivery(job_id, "failed", delivery_of(job_id))
    owner.api.exports.mkdir(parents=True, exist_ok=True)
    (owner.api.exports / name).write_text(str(job_id))
    return owner, job


def delivery_of(job_id: UUID) -> UUID:
    """The id of the delivery that was made beside a job."""
    return uuid5(job_id, "delivery")
