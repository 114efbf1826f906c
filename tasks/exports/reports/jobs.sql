--: report     The organization's jobs that were created in a period, oldest first.
--: parameter  created_from timestamp = none -- the first moment of the period; without it, from the first job on
--: parameter  created_to   timestamp = none -- the first moment after the period; without it, up to now
--: parameter  job_type     text = none      -- only jobs of this type
--: parameter  status       status = none    -- only jobs that are in this status now
--: parameter  project_id   text = none      -- only jobs of this project
--: range      created_from created_to
SELECT id,
       job_type AS "jobType",
       status,
       hold,
       priority,
       user_id AS "userId",
       project_id AS "projectId",
       attempt,
       retry_count AS "retryCount",
       max_retries AS "maxRetries",
       progress,
       message,
       error_message AS "errorMessage",
       worker,
       created_at AS "createdAt",
       started_at AS "startedAt",
       completed_at AS "completedAt",
       CAST(round(1000 * extract(epoch FROM completed_at - started_at)) AS bigint) AS "durationMs"
FROM jobs
WHERE organization_id = :organization
  AND created_at >= coalesce(:created_from, '-infinity')
  AND created_at < coalesce(:created_to, 'infinity')
  AND (:job_type IS NULL OR job_type = :job_type)
  AND (:status IS NULL OR status = :status)
  AND (:project_id IS NULL OR project_id = :project_id)
ORDER BY created_at, id
