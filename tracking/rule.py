"""The one rule, as SQL: what a waiting job waits for, and what lets it through.

A job is let through by its dependencies, its due time, the pauses and the circuit of its type, in this order; then it
stands in line for one of its organization's slots. Slots are counted from the rows.

Each function spells one question about the row of `jobs` that goes by the name `job`, with the parameters of Limits.
"""

from __future__ import annotations

from tracking.schema import IN_FLIGHT

LINES = 0x63656C65  # "cele": the space of our locks, of which each organization has one; any constant will do

EVERYBODY = ""  # instead of an organization: the circuit for all of them

ALIVE = "workers.seen_at > clock_timestamp() - CAST(:lease_timeout AS interval)"


def is_paused(job: str) -> str:
    """SQL: whether somebody has paused this job's type or organization."""
    return f"""EXISTS (SELECT FROM pauses
                       WHERE coalesce(pauses.organization_id, {job}.organization_id) = {job}.organization_id
                         AND coalesce(pauses.job_type, {job}.job_type) = {job}.job_type)"""


def is_broken(job: str) -> str:
    """SQL: whether a circuit holds this job, its organization's or that for all, and it is not the one that tries."""
    return f"""EXISTS (SELECT FROM circuits AS broken
                       WHERE broken.job_type = {job}.job_type AND broken.key = {job}.circuit_key
                         AND broken.organization_id IN ({job}.organization_id, '{EVERYBODY}')
                         AND broken.probe_id IS DISTINCT FROM {job}.id)"""


def is_uncalled(job: str) -> str:
    """SQL: whether this job lacks arguments, the result of a job or of a canvas group; see successors.py."""
    return f"({job}.follows IS NOT NULL OR {job}.follows_group IS NOT NULL)"


def is_dependent(job: str) -> str:
    """SQL: whether one of the jobs that this job depends on has not succeeded."""
    return f"""EXISTS (SELECT FROM unnest({job}.depends_on) AS wanted (id)
                     WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                       WHERE dependency.id = wanted.id AND dependency.status = 'succeeded'))"""


def limit_of(organization: str) -> str:
    """SQL: how many jobs of this organization may execute at once; 0 = any number."""
    return f"coalesce((SELECT concurrency FROM organizations WHERE id = {organization}), CAST(:limit AS int))"


def next_hold(job: str, due_at: str | None = None) -> str:
    """SQL, the rule: what this waiting job has to wait for next; null = nothing. `due_at` instead of the job's own.

    A job that has run before had dependencies that succeeded; they may have been removed since.
    """
    return f"""CASE
        WHEN {is_uncalled(job)} OR {job}.attempt = 0 AND {is_dependent(job)} THEN 'dependency'
        WHEN {due_at or f"{job}.due_at"} > clock_timestamp()
            THEN CASE {job}.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
        WHEN {is_paused(job)} THEN 'paused'
        WHEN {is_broken(job)} THEN 'circuit'
        WHEN {limit_of(f"{job}.organization_id")} > 0 THEN 'organization_limit'
    END"""


def room_of(organization: str) -> str:
    """SQL: how many more jobs of an organization with a limit may be sent.

    Not more than the living workers can run at once: what is already with the broker runs before the next job of
    anybody else.
    """
    limit = limit_of(organization)
    return f"""(SELECT CASE WHEN slots > 0 THEN least({limit}, slots) ELSE {limit} END
                       - (SELECT count(*) FROM jobs WHERE organization_id = {organization} AND {IN_FLIGHT})
                FROM (SELECT sum(concurrency) AS slots FROM workers WHERE {ALIVE}) AS alive)"""


def is_served(job: str) -> str:
    """SQL: whether a living worker consumes this job's queue; yes while there is none at all, as before a first start.

    A job that nobody would run must not take a slot from one that somebody would.
    """
    return f"""({job}.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE {ALIVE}))
                OR NOT EXISTS (SELECT FROM workers WHERE {ALIVE}))"""


def before_in_line(job: str, which: str) -> str:
    """SQL: how many jobs of its organization stand in line before this one; of those that are so: `earlier`."""
    return f"""(SELECT count(*) FROM jobs AS earlier
                WHERE earlier.organization_id = {job}.organization_id AND earlier.hold = 'organization_limit'
                  AND {is_served("earlier")} AND {which}
                  AND (earlier.priority > {job}.priority
                       OR earlier.priority = {job}.priority
                          AND (earlier.created_at, earlier.id) < ({job}.created_at, {job}.id)))"""


def gets_slot(job: str) -> str:
    """SQL: whether the next look at its organization's line takes this job out of it, to whatever it meets then.

    Those before it that something else stops will step aside.
    """
    organization = f"{job}.organization_id"
    before = before_in_line(job, f"{next_hold('earlier')} = 'organization_limit'")
    return f"""({limit_of(organization)} = 0 OR {is_served(job)} AND {before} < {room_of(organization)})"""


def still_holds(job: str) -> str:
    """SQL: whether what this job is held for is still so; null when it is not held."""
    return f"""CASE {job}.hold
        WHEN 'dependency' THEN {is_uncalled(job)} OR {is_dependent(job)}
        WHEN 'paused' THEN {is_paused(job)}
        WHEN 'circuit' THEN {is_broken(job)}
        WHEN 'organization_limit' THEN NOT {gets_slot(job)}
        ELSE {job}.due_at > clock_timestamp()
    END"""


def blocked_by(job: str) -> str:
    """SQL: the hold that keeps this waiting job from its start now; null = nothing, whatever its row still says.

    A job that was sent meets the pauses and the circuit again when it is claimed.
    """
    return f"""(SELECT CASE
        WHEN {job}.hold IS NULL THEN CASE WHEN {is_paused(job)} THEN 'paused' WHEN {is_broken(job)} THEN 'circuit' END
        WHEN {still_holds(job)} THEN {job}.hold
        WHEN next.hold <> 'organization_limit' THEN next.hold
        WHEN NOT {gets_slot(job)} THEN 'organization_limit'
    END FROM (SELECT {next_hold(job)} AS hold) AS next)"""


def first_hold(job: str) -> str:
    """SQL: the hold of a new job, which needs no place in the line while a slot is free and nobody waits for it."""
    return f"""(SELECT CASE
        WHEN next.hold IS DISTINCT FROM 'organization_limit' THEN next.hold
        WHEN NOT {is_served(job)} THEN 'organization_limit'
        WHEN free_slots({job}.organization_id, :limit, :lease_timeout) <= 0 THEN 'organization_limit'
    END FROM (SELECT {next_hold(job)} AS hold) AS next)"""


# Locking and counting are statements of their own in a function: a statement that waited for the lock would count what
# there was before. As a function they cost a new job no round trip. A change of `room_of` needs a migration that runs
# this again.
FREE_SLOTS = f"""
CREATE OR REPLACE FUNCTION free_slots(of_organization text, platform_limit int, silence interval) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock({LINES}, hashtext(of_organization));
    RETURN CASE
        WHEN EXISTS (SELECT FROM jobs WHERE organization_id = of_organization AND hold = 'organization_limit') THEN 0
        ELSE {room_of("of_organization").replace(":limit", "platform_limit").replace(":lease_timeout", "silence")}
    END;
END $$"""


def is_awaited(job: str) -> str:
    """SQL: whether the end of this job's attempt may let others through."""
    return f"""(EXISTS (SELECT FROM jobs AS waiting
                        WHERE waiting.organization_id = {job}.organization_id AND waiting.hold = 'organization_limit')
                OR EXISTS (SELECT FROM jobs AS dependent
                           WHERE dependent.depends_on @> ARRAY[{job}.id] AND dependent.hold = 'dependency')
                OR EXISTS (SELECT FROM circuits WHERE circuits.probe_id = {job}.id))"""
