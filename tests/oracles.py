"""The rules of the holds once more, as the tables say them and not as the platform does."""

from __future__ import annotations

PAUSED = """
    EXISTS (SELECT FROM pauses
            WHERE (pauses.organization_id IS NULL OR pauses.organization_id = held.organization_id)
              AND (pauses.job_type IS NULL OR pauses.job_type = held.job_type))"""
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
FULL = f"""
    ({OWN_LIMIT} > 0
     AND {OWN_LIMIT} <= (SELECT count(*) FROM jobs WHERE organization_id = held.organization_id AND {FLYING}))"""  # noqa: S608 - of our own constants
BUSY = f"""
    (({OWN_LIMIT} > 0 OR EXISTS (SELECT FROM jobs WHERE organization_id <> held.organization_id
                                 AND status IN ('queued', 'retrying')
                                 AND (hold IS NULL OR hold = 'organization_limit')))
     AND (SELECT sum(concurrency) FROM workers WHERE seen_at > now() - CAST(:lease_timeout AS interval))
         <= (SELECT count(*) FROM jobs WHERE {FLYING})
     AND EXISTS (SELECT FROM jobs WHERE organization_id = held.organization_id AND hold IS NULL
                 AND status IN ('queued', 'retrying')))"""  # noqa: S608 - of our own constants
CROWD = f"""
    SELECT organization_id FROM jobs AS held
    WHERE hold IS NULL AND status IN ('queued', 'retrying') AND {OWN_LIMIT} > 0
      AND (SELECT sum(concurrency) FROM workers WHERE seen_at > now() - CAST(:lease_timeout AS interval))
          < (SELECT count(*) FROM jobs WHERE {FLYING})
    GROUP BY organization_id HAVING count(*) > 1"""  # noqa: S608 - of our own constants

# Holds without their reason. The rule may name another one before it, which came later.
UNFOUNDED = f"""
    SELECT id, hold FROM jobs AS held
    WHERE hold IS NOT NULL AND NOT CASE hold
        WHEN 'dependency' THEN (SELECT bool_or(wanted.status NOT IN ('succeeded', 'failed', 'cancelled'))
                                       AND NOT bool_or(wanted.status IN ('failed', 'cancelled'))
                                FROM jobs AS wanted WHERE wanted.id = ANY(held.depends_on))
        WHEN 'paused' THEN {PAUSED}
        WHEN 'circuit' THEN {BROKEN}
        WHEN 'organization_limit' THEN {FULL} OR {BUSY}
        ELSE due_at > clock_timestamp()
    END"""  # noqa: S608 - of our own constants
GATED = f"""
    SELECT hold IS NOT NULL OR {PAUSED} OR {BROKEN}
    FROM jobs AS held WHERE id = :id"""  # noqa: S608 - of our own constants
