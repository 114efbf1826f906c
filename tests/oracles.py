"""The rules of the holds once more, as the tables say them and not as the platform does."""

from __future__ import annotations

PAUSED = """
    (EXISTS (SELECT FROM pauses
            WHERE (pauses.organization_id IS NULL OR pauses.organization_id = held.organization_id)
              AND (pauses.job_type IS NULL OR pauses.job_type = held.job_type))
     OR held.queue IN (SELECT queue FROM paused_queues))"""
BROKEN = """
    (SELECT count(*) FROM circuits
     WHERE circuits.job_type = held.job_type AND circuits.key = held.circuit_key
       AND (circuits.organization_id = held.organization_id OR circuits.organization_id = '')
       AND (circuits.probe_id IS NULL OR circuits.probe_id <> held.id)) > 0"""
FOR_ALL_OF_ONE = """
    SELECT job_type, key FROM circuits GROUP BY job_type, key
    HAVING bool_or(organization_id = '') AND count(*) FILTER (WHERE organization_id <> '') < 2"""

# No slot of the organization is free; or no worker's is, somebody else waits, and one of its jobs does so already.
OWN_LIMIT = "coalesce((SELECT concurrency FROM organizations WHERE id = held.organization_id), :limit)"
FLYING = "(status IN ('queued', 'retrying') AND hold IS NULL OR status = 'running' OR stopping)"
WEIGHT = """coalesce((SELECT weight FROM organization_weights AS own
               WHERE own.organization_id = held.organization_id), 1)"""
FULL = f"""
    ({OWN_LIMIT} > 0
     AND {OWN_LIMIT} <= (SELECT count(*) FROM jobs WHERE organization_id = held.organization_id AND {FLYING}))"""  # noqa: S608 - of our own constants
BUSY = f"""
    (({OWN_LIMIT} > 0 OR EXISTS (SELECT FROM jobs WHERE organization_id <> held.organization_id
                                 AND status IN ('queued', 'retrying')
                                 AND (hold IS NULL OR hold = 'organization_limit')))
     AND (SELECT sum(concurrency) FROM workers WHERE seen_at > now() - CAST(:lease_timeout AS interval))
         <= (SELECT count(*) FROM jobs WHERE {FLYING})
     AND {WEIGHT} <= (SELECT count(*) FROM jobs WHERE organization_id = held.organization_id AND hold IS NULL
                      AND status IN ('queued', 'retrying')))"""  # noqa: S608 - of our own constants
CROWD = f"""
    SELECT organization_id FROM jobs AS held
    WHERE hold IS NULL AND status IN ('queued', 'retrying') AND {OWN_LIMIT} > 0
      AND (SELECT sum(concurrency) FROM workers WHERE seen_at > now() - CAST(:lease_timeout AS interval))
          < (SELECT count(*) FROM jobs WHERE {FLYING})
    GROUP BY organization_id
    HAVING count(*) > coalesce((SELECT weight FROM organization_weights AS own
                                WHERE own.organization_id = held.organization_id), 1)"""  # noqa: S608 - of our own constants

# The limits of a job: its organization's own instead of those of all.
MET = """
    SELECT * FROM job_limits AS bound
    WHERE (bound.job_type IS NULL OR bound.job_type = held.job_type)
      AND (bound.per <> 'key' OR held.payload ->> bound.key_path IS NOT NULL)
      AND (bound.organization_id = held.organization_id
           OR bound.organization_id IS NULL
              AND NOT EXISTS (SELECT FROM job_limits AS own
                              WHERE own.organization_id = held.organization_id AND own.per = bound.per
                                AND own.job_type IS NOT DISTINCT FROM bound.job_type))"""
_LIKE_IT = """(met.per = 'platform' OR other.organization_id = held.organization_id)
              AND (met.per <> 'key' OR other.{} = held.payload ->> met.key_path)"""
TAKEN = f"""
    (SELECT count(*) FROM (SELECT *, payload ->> 'account' AS account FROM jobs) AS other
     WHERE {FLYING} AND limit_key IS NOT NULL AND other.job_type = held.job_type
       AND {_LIKE_IT.format("account")})"""  # noqa: S608 - of our own constants
SPENT = """
    (SELECT count(*) FROM limit_admissions AS other
     WHERE other.limit_id = met.id AND expires_at > clock_timestamp()
       AND (met.per = 'platform' OR other.organization_id = held.organization_id))"""
# Under a rate one that waits at the broker is enough while the workers are busy.
LIMITED = f"""
    EXISTS (SELECT FROM ({MET}) AS met
            WHERE concurrency <= {TAKEN} OR rate <= {SPENT}
               OR rate IS NOT NULL
                  AND (SELECT sum(concurrency) FROM workers WHERE seen_at > now() - CAST(:lease_timeout AS interval))
                      <= (SELECT count(*) FROM jobs WHERE {FLYING})
                  AND EXISTS (SELECT FROM jobs AS other
                              WHERE other.organization_id = held.organization_id AND other.job_type = held.job_type
                                AND other.hold IS NULL AND other.status IN ('queued', 'retrying')))"""  # noqa: S608 - as above
EXCEEDED = f"""
    SELECT held.id, met.concurrency FROM jobs AS held CROSS JOIN LATERAL ({MET}) AS met
    WHERE limit_key IS NOT NULL AND hold IS NULL AND status IN ('queued', 'retrying') AND concurrency < {TAKEN}"""  # noqa: S608 - as above

# Holds without their reason. The rule may name another one before it, which came later.
UNFOUNDED = f"""
    SELECT id, hold FROM jobs AS held
    WHERE hold IS NOT NULL AND NOT CASE hold
        WHEN 'dependency' THEN (SELECT bool_or(wanted.status NOT IN ('succeeded', 'failed', 'cancelled'))
                                       AND NOT bool_or(wanted.status IN ('failed', 'cancelled'))
                                FROM jobs AS wanted WHERE wanted.id = ANY(held.depends_on))
        WHEN 'paused' THEN {PAUSED}
        WHEN 'circuit' THEN {BROKEN}
        WHEN 'limit' THEN {LIMITED} OR {FULL} OR {BUSY}
        WHEN 'organization_limit' THEN {FULL} OR {BUSY}
        ELSE due_at > clock_timestamp()
    END"""  # noqa: S608 - of our own constants
GATED = f"""
    SELECT hold IS NOT NULL OR {PAUSED} OR {BROKEN} OR limit_key IS NULL AND EXISTS ({MET})
    FROM jobs AS held WHERE id = :id"""  # noqa: S608 - of our own constants
