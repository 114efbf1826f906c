--: report     For each day (UTC) and job type: jobs created, how they ended, and how long the finished ones ran.
--: parameter  created_from date = none -- the first day; without it, the last 30 days
--: parameter  created_to   date = none -- the first day that is not counted any more; without it, up to now
--: parameter  job_type     text = none -- only jobs of this type
--: range      created_from created_to
SELECT CAST(created_at AT TIME ZONE 'UTC' AS date) AS day,
       job_type AS "jobType",
       count(*) AS jobs,
       count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
       count(*) FILTER (WHERE status = 'failed') AS failures,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       round(CAST(percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) AS numeric), 3) AS "p50Ms",
       round(CAST(percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS numeric), 3) AS "p95Ms"
FROM (
    SELECT created_at,
           job_type,
           status,
           1000 * extract(epoch FROM completed_at - started_at) AS duration_ms
    FROM jobs
    WHERE organization_id = :organization
      AND created_at >= CAST(coalesce(:created_from, current_date - 29) AS timestamp) AT TIME ZONE 'UTC'
      AND created_at < CAST(coalesce(:created_to, 'infinity') AS timestamp) AT TIME ZONE 'UTC'
      AND (:job_type IS NULL OR job_type = :job_type)
) AS counted
GROUP BY day, "jobType"
ORDER BY day, "jobType"
