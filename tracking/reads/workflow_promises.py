"""What `celeriac verify` holds to be true of workflows, in SQL, from the tables alone, as promises.py does for jobs."""

from __future__ import annotations

from tracking.reads.promises import ALIVE, LONG_AGO

# What was kept at its end is what its jobs say, of those that are still there; a skip is a cancel. It is kept within a
# minute, where a worker lives.
ENDS = f"""
    WITH told AS (
        SELECT workflow_id, count(*) AS jobs, count(ended) AS ended,
               bool_or(ended = 'failed') AS has_failed, bool_or(ended = 'cancelled') AS was_cancelled,
               bool_or(jobs.status IN ('queued', 'running', 'retrying') OR jobs.stopping) AS goes_on,
               bool_or(ended IS DISTINCT FROM jobs.status AND jobs.id IS NOT NULL
                       AND NOT (ended = 'skipped' AND jobs.status = 'cancelled')) AS differs,
               max(jobs.updated_at) AS changed_at
        FROM workflow_jobs LEFT JOIN jobs ON jobs.id = job_id GROUP BY workflow_id
    )
    SELECT id AS job_id FROM workflows LEFT JOIN told ON workflow_id = id
    WHERE CASE WHEN completed_at IS NOT NULL
          THEN told.jobs IS NULL OR told.ended < told.jobs OR differs OR coalesce(goes_on, false)
               OR workflows.status <> CASE WHEN has_failed THEN 'failed' WHEN was_cancelled THEN 'cancelled'
                                      ELSE 'succeeded' END
          ELSE told.jobs IS NULL
               OR coalesce(NOT goes_on, true) AND coalesce(changed_at, workflows.created_at) < {LONG_AGO}
                  AND EXISTS (SELECT FROM workers WHERE {ALIVE} AND started_at < {LONG_AGO}) END"""

# In one run: what a job waits for is of its own workflow and organization. Before its first start all that it waits for
# had ended as it has to; what has happened to these since, such as a retry, is after that in the history.
WAITED = """
    WITH edges AS (
        SELECT workflow_jobs.workflow_id, job.id, job.organization_id, wanted.job_id AS awaited,
               edge ->> 'when' AS ending,
               (SELECT min(history.id) FROM history WHERE history.job_id = job.id AND event = 'started') AS began
        FROM workflow_jobs JOIN jobs AS job ON job.id = workflow_jobs.job_id
        CROSS JOIN LATERAL jsonb_array_elements(workflow_jobs.after) AS edge
        LEFT JOIN workflow_jobs AS wanted
               ON wanted.workflow_id = workflow_jobs.workflow_id AND wanted.key = edge ->> 'key'
    )
    SELECT edges.id AS job_id FROM edges JOIN jobs AS awaited ON awaited.id = edges.awaited
    WHERE awaited.organization_id <> edges.organization_id OR awaited.root_id <> edges.workflow_id
       OR began IS NOT NULL
          AND NOT EXISTS (SELECT FROM history AS ended
                          WHERE ended.job_id = awaited.id AND ended.id < began
                            AND ended.from_status IS DISTINCT FROM ended.to_status
                            AND (ended.to_status = edges.ending
                                 OR edges.ending = 'finished' AND ended.to_status = ANY(:finished)))
    UNION ALL
    SELECT id FROM edges WHERE awaited IS NULL"""
