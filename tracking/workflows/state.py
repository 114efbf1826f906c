"""What the jobs of a workflow say of it, as SQL: the one place that knows its status, progress and cost."""

from __future__ import annotations

from tracking.admission.rule import cannot_be_met
from tracking.columns import columns_of
from tracking.models import UNCALLED
from tracking.sql import in_life, listed
from tracking.states import ACTIVE, Event, Status
from tracking.workflow_tables import SKIPPED, WorkflowStatus, workflow_jobs, workflows
from tracking.workflows.values import NODE_STATUSES

# What a job waits for cannot come, as things are now: after a retry of that by itself it might have come.
_IS_SKIPPED = f"""jobs.status = '{Status.CANCELLED}' AND jobs.error_type = '{UNCALLED}'
                 AND EXISTS (SELECT FROM unnest(jobs.depends_on, jobs.depends_when) AS wanted (id, ending)
                             LEFT JOIN jobs AS dependency ON dependency.id = wanted.id
                             WHERE {cannot_be_met("dependency", "wanted.ending")})"""

NODE_STATUS = f"""CASE WHEN jobs.id IS NULL THEN coalesce(node.ended, '{Status.CANCELLED}')
                 WHEN {_IS_SKIPPED} THEN '{SKIPPED}' ELSE jobs.status END"""


def nodes(which: str) -> str:
    """SQL: the jobs of the workflows that are so, beside what was asked for: `node`."""
    return f"""
    SELECT {columns_of(workflow_jobs, "node")}, {NODE_STATUS} AS status_now, jobs.id IS NULL AS is_gone, jobs.hold,
           coalesce(jobs.attempt, 1) AS attempt, coalesce(jobs.stopping, false) AS stopping,
           coalesce(jobs.progress, 0) AS progress, jobs.error_message, jobs.started_at, jobs.completed_at
    FROM workflow_jobs AS node LEFT JOIN jobs ON jobs.id = node.job_id
    WHERE {which}"""


_COUNTS = ", ".join(f"count(*) FILTER (WHERE status_now = '{status}') AS are_{status}" for status in NODE_STATUSES)
_GOES_ON = f"bool_or(status_now IN ({listed(ACTIVE)}) OR stopping)"

# A failure outweighs a cancel, and what was skipped says nothing.
STATE = f"""
    SELECT CASE WHEN {_GOES_ON} THEN
                    CASE WHEN bool_and(status_now = '{Status.QUEUED}' AND attempt = 0) THEN '{WorkflowStatus.QUEUED}'
                    ELSE '{WorkflowStatus.RUNNING}' END
                WHEN bool_or(status_now = '{Status.FAILED}') THEN '{WorkflowStatus.FAILED}'
                WHEN bool_or(status_now = '{Status.CANCELLED}') THEN '{WorkflowStatus.CANCELLED}'
                ELSE '{WorkflowStatus.SUCCEEDED}' END AS status_now,
           {_COUNTS}, CAST(floor(avg(CASE WHEN stopping THEN 99 WHEN status_now IN ({listed(ACTIVE)}) THEN progress
                                     ELSE 100 END)) AS int) AS progress,
           min(started_at) AS started_at, CASE WHEN NOT {_GOES_ON} THEN max(completed_at) END AS last_end
    FROM ({nodes("node.workflow_id = workflows.id")}) AS found"""

# Each row of history lasts to the next one of its job: of these times all that a body ran, or was still stopping. The
# jobs are one array: of a join the planner, as long as it has counted no week of the history, may look for each of a
# thousand of them at all that its organization did.
WORKER_MS = f"""(
    SELECT CAST(greatest(0, coalesce(sum(1000 * extract(EPOCH FROM coalesce(next_at, clock_timestamp()) - at)), 0))
                AS bigint)
    FROM (SELECT history.at, event, to_status,
                 lead(history.at) OVER path AS next_at, lead(event) OVER path AS next_event
          FROM history
          WHERE history.job_id = ANY(ARRAY(SELECT jobs.id FROM jobs
                                           WHERE jobs.root_id = workflows.id AND jobs.root_id <> jobs.id
                                             AND NOT jobs.external))
            AND {in_life("workflows")}
          WINDOW path AS (PARTITION BY history.job_id ORDER BY history.id)) AS steps
    WHERE to_status = '{Status.RUNNING}'
       OR event IN ('{Event.CANCELLED}', '{Event.SEEN}') AND next_event IN ('{Event.SEEN}', '{Event.STOPPED}'))"""

# Of one that has ended what was kept then: its jobs may have been removed since.
SHOWN = f"""{columns_of(workflows)}, state.*, coalesce(workflows.completed_at, state.last_end) AS completed_at_now,
           CASE WHEN workflows.completed_at IS NULL THEN {WORKER_MS} ELSE workflows.worker_ms END AS worker_ms_now"""
WITH_STATE = f"workflows CROSS JOIN LATERAL ({STATE}) AS state"
