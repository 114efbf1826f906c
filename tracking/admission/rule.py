"""The one rule, as SQL: what a waiting job waits for, and what lets it through.

A job is let through by its dependencies, its due time, the pauses and the circuits of its type, in this order; then
by the limits of its type, and it stands in line for one of its organization's slots: these two are given together
(line.py). One whose work is done elsewhere is never let through. Slots are counted from the rows. Inside an
organization the line goes by priority. Between organizations there are turns: each may always have as many jobs that
wait at the broker as its weight says, one by default, and more only while workers have free slots; the broker hands out
in the order of arrival what several of them have sent.

Each function spells one question about the row of `jobs` that goes by the name `job`, with the parameters of Limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from tracking.schema import IN_FLIGHT
from tracking.settings import Settings
from tracking.sql import listed
from tracking.states import FINISHED, WAITING, When

ACTOR = "admission"
BY_ADMISSION = f"'{ACTOR}'"

LINES = 0x63656C65  # "cele": the space of our locks, of which each organization has one; any constant will do

EVERYBODY = ""  # instead of an organization: the circuit for all of them

# With the broker, and not started.
SENT = f"{IN_FLIGHT} AND hold IS NULL AND status IN ({listed(WAITING)})"

# Held by a gate, which an operator or the success of another job can open at any time.
IS_GATED = "hold IN ('paused', 'circuit')"
# Of history: a job that is due may have to wait for something else, such as a slot.
NEXT = f"'next', CASE WHEN NOT {IS_GATED} THEN hold END"

ALIVE = "workers.seen_at > clock_timestamp() - CAST(:lease_timeout AS interval)"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many jobs of one organization may execute at once, unless it has a number of its own; 0 = any number.

    A worker that was silent for `lease_timeout` offers no slots.
    """

    concurrency: int
    lease_timeout: timedelta = timedelta(seconds=20)

    @classmethod
    def configured(cls, settings: Settings) -> Self:
        return cls(settings.organization_limit, timedelta(seconds=settings.lease_timeout))

    @property
    def parameters(self) -> dict[str, Any]:
        return {"limit": self.concurrency, "lease_timeout": self.lease_timeout}


UNLIMITED = Limits(0)


def is_paused(job: str) -> str:
    """SQL: whether somebody has paused this job's type, organization or queue."""
    return f"""(EXISTS (SELECT FROM pauses
                       WHERE coalesce(pauses.organization_id, {job}.organization_id) = {job}.organization_id
                         AND coalesce(pauses.job_type, {job}.job_type) = {job}.job_type)
                OR EXISTS (SELECT FROM paused_queues WHERE paused_queues.queue = {job}.queue))"""


def is_broken(job: str) -> str:
    """SQL: whether a circuit holds this job, its organization's or that for all, and it is not the one that tries."""
    return f"""EXISTS (SELECT FROM circuits AS broken
                       WHERE broken.job_type = {job}.job_type AND broken.key = {job}.circuit_key
                         AND broken.organization_id IN ({job}.organization_id, '{EVERYBODY}')
                         AND broken.probe_id IS DISTINCT FROM {job}.id)"""


def is_limited(job: str) -> str:
    """SQL: whether there is a limit for jobs of this one's type, organization or key; see job_limits.py.

    Whether there is any at all is asked once for a statement, however many jobs it has.
    """
    found = f"""EXISTS (SELECT FROM job_limits AS bound
                        WHERE bound.job_type {{}}
                          AND coalesce(bound.organization_id, {job}.organization_id) = {job}.organization_id
                          AND (bound.per <> 'key'
                               OR nullif({job}.payload #>> string_to_array(bound.key_path, '.'), '') IS NOT NULL))"""
    of_type, of_all = found.format(f"= {job}.job_type"), found.format("IS NULL")
    return f"(EXISTS (SELECT FROM job_limits) AND ({of_type} OR {of_all}))"


def is_unlooked(job: str) -> str:
    """SQL: whether this job was sent before there was a limit for it."""
    return f"({job}.limit_key IS NULL AND {is_limited(job)})"


def weight_of(organization: str) -> str:
    """SQL: how many jobs of this organization are served while one is of another; 1 unless somebody has said."""
    return f"coalesce((SELECT weight FROM organization_weights WHERE organization_id = {organization}), 1)"


def is_uncalled(job: str) -> str:
    """SQL: whether this job lacks arguments, the result of a job or of a canvas group; see successors.py."""
    return f"({job}.follows IS NOT NULL OR {job}.follows_group IS NOT NULL)"


def is_followed(job: str) -> str:
    """SQL: whether another job waits to be called with this one's result, or with those of its group.

    The hold is asked so that no index has it: the planner would rather read all that wait for something than find one.
    """
    is_held = "coalesce(waiting.hold, '') = 'dependency'"
    return f"""(EXISTS (SELECT FROM jobs AS waiting WHERE waiting.follows = {job}.id AND {is_held})
                OR EXISTS (SELECT FROM jobs AS waiting WHERE waiting.follows_group = {job}.group_id AND {is_held}))"""


def is_dependent(job: str) -> str:
    """SQL: whether one of the jobs that this job depends on has not ended as it has to."""
    return f"""EXISTS (SELECT FROM unnest({job}.depends_on, {job}.depends_when) AS wanted (id, ending)
                     WHERE NOT EXISTS (SELECT FROM jobs AS dependency
                                       WHERE dependency.id = wanted.id AND {is_met("dependency", "wanted.ending")}))"""


def is_met(dependency: str, ending: str) -> str:
    """SQL: whether a job has ended as another one wants it to; null = with success."""
    return f"""({dependency}.status = coalesce({ending}, '{When.SUCCEEDED}')
                OR {ending} = '{When.FINISHED}' AND {dependency}.status IN ({listed(FINISHED)})
                   AND NOT {dependency}.stopping)"""


def cannot_be_met(dependency: str, ending: str) -> str:
    """SQL: whether this job, perhaps a null row, will never end so by itself: it has ended otherwise, or is gone."""
    return f"""({dependency}.id IS NULL
                OR {dependency}.status IN ({listed(FINISHED)})
                   AND coalesce({ending}, '{When.SUCCEEDED}') NOT IN ('{When.FINISHED}', {dependency}.status))"""


def limit_of(organization: str) -> str:
    """SQL: how many jobs of this organization may execute at once; 0 = any number."""
    return f"coalesce((SELECT concurrency FROM organizations WHERE id = {organization}), CAST(:limit AS int))"


def is_contended(organization: str, queue: str, silence: str = ":lease_timeout") -> str:
    """SQL: whether another organization has a job that was sent and waits, or one in line, for workers of this queue.

    Workers that were silent for so long do not count; null: all that are known do.
    """
    return f"is_contended({organization}, {queue}, {silence})"


def joins_line(organization: str, queue: str) -> str:
    """SQL: whether a job has to stand in line: without a limit only while those of others wait for the same workers."""
    return f"({limit_of(organization)} > 0 OR {is_contended(organization, queue)})"


def lines_joined(asked: str) -> str:
    """SQL, a CTE, `lines`: whether jobs join a line, asked once for each organization and queue of many, `asked`."""
    return f"""lines AS MATERIALIZED (
        SELECT organization_id, queue, {joins_line("whose.organization_id", "whose.queue")} AS joins
        FROM (SELECT DISTINCT organization_id, queue FROM {asked}) AS whose
    )"""


def next_hold(job: str, due_at: str | None = None, joins: str | None = None, gates: str | None = None) -> str:
    """SQL, the rule: what this waiting job has to wait for next; null = nothing.

    `due_at` instead of the job's own; where many jobs are asked about, `joins`, what `joins_line` has answered, and
    `gates`, a row with the columns of `gates_of`, of their organization. A job that has run before had dependencies
    that were met; they may have been removed since.
    """
    names = ("has_pauses", "has_circuits", "has_limits")
    paused, broken, limited = (f"{gates}.{name} AND " if gates else "" for name in names)
    return f"""CASE
        WHEN {job}.external THEN 'external'
        WHEN {is_uncalled(job)} OR {job}.unresolved
             OR {job}.attempt = 0 AND {job}.depends_on <> '{{}}' AND {is_dependent(job)}
            THEN 'dependency'
        WHEN {due_at or f"{job}.due_at"} > clock_timestamp()
            THEN CASE {job}.status WHEN 'retrying' THEN 'backoff' ELSE 'schedule' END
        WHEN {paused}{is_paused(job)} THEN 'paused'
        WHEN {broken}{is_broken(job)} THEN 'circuit'
        WHEN {limited}{is_limited(job)} THEN 'limit'
        WHEN {joins or joins_line(f"{job}.organization_id", f"{job}.queue")} THEN 'organization_limit'
    END"""


def gates_of(organization: str) -> str:
    """SQL, columns: whether anything at all is paused, broken or limited that an organization's jobs may meet."""
    return f"""EXISTS (SELECT FROM pauses WHERE coalesce(pauses.organization_id, {organization}) = {organization})
                   OR EXISTS (SELECT FROM paused_queues) AS has_pauses,
               EXISTS (SELECT FROM circuits WHERE circuits.organization_id IN ({organization}, '{EVERYBODY}'))
                   AS has_circuits,
               EXISTS (SELECT FROM job_limits AS bound
                       WHERE coalesce(bound.organization_id, {organization}) = {organization}) AS has_limits"""


def room_in(organization: str, queue: str) -> str:
    """SQL: how many more jobs of an organization may be sent to a queue now; what is in line there goes first."""
    return f"room_in({organization}, {queue}, :limit, :lease_timeout)"


def free_in(queue: str) -> str:
    """SQL: how many slots of this queue's workers no job was sent for; null while there is no worker."""
    return f"free_in({queue}, :lease_timeout)"


def is_served(job: str) -> str:
    """SQL: whether a living worker consumes this job's queue; yes while there is none at all, as before a first start.

    A job that no worker would run must not take the slot of one that a worker would.
    """
    return f"""({job}.queue = ANY(ARRAY(SELECT unnest(queues) FROM workers WHERE {ALIVE}))
                OR NOT EXISTS (SELECT FROM workers WHERE {ALIVE}))"""


def shared_with(queue: str) -> str:
    """SQL: the queues that living workers of this one consume, in the order of their names; empty without a worker."""
    return f"""ARRAY(SELECT DISTINCT unnest(queues) AS each FROM workers
                     WHERE {ALIVE} AND {queue} = ANY(workers.queues) ORDER BY each)"""


def is_behind(job: str) -> str:
    """SQL: whether a job that is as urgent as this one, or more, stands in its line already."""
    return f"""EXISTS (SELECT FROM jobs AS waiting
                       WHERE waiting.organization_id = {job}.organization_id AND waiting.hold = 'organization_limit'
                         AND waiting.queue = {job}.queue AND waiting.priority >= {job}.priority)"""


def is_before(earlier: str, job: str) -> str:
    """SQL: whether a job stands before another one of its organization: it is more urgent, or else older."""
    return f"""({earlier}.priority > {job}.priority
                OR {earlier}.priority = {job}.priority
                   AND ({earlier}.created_at, {earlier}.id) < ({job}.created_at, {job}.id))"""


def in_flight(organization: str) -> str:
    """SQL: how many jobs of an organization hold one of its slots."""
    return f"(SELECT count(*) FROM jobs WHERE organization_id = {organization} AND {IN_FLIGHT})"


def has_own_room(organization: str) -> str:
    """SQL: whether an organization may have one more job sent, as far as its own limit goes: first of what is asked."""
    return f"({limit_of(organization)} = 0 OR {limit_of(organization)} > {in_flight(organization)})"


def free_slots(queue: str, shared: str) -> str:
    """SQL: how many slots of this queue's workers nothing was sent for; null without one. `shared`: their queues."""
    return f"""((SELECT sum(concurrency) FROM workers WHERE {ALIVE} AND {queue} = ANY(workers.queues))
                - (SELECT count(*) FROM jobs WHERE {IN_FLIGHT} AND queue = ANY({shared})))"""


def distinct(name: str, columns: Sequence[str], condition: str) -> str:
    """SQL, a recursive CTE: what such jobs have in these columns, each once; a probe of an index for each of them."""
    all_of, jobs, known = (", ".join(f"{of}{column}" for column in columns) for of in ("", "jobs.", f"{name}."))
    return f"""{name} AS (
        (SELECT {all_of} FROM jobs WHERE {condition} ORDER BY {all_of} LIMIT 1)
        UNION ALL
        SELECT next.* FROM {name} CROSS JOIN LATERAL (
            SELECT {all_of} FROM jobs
            WHERE {condition} AND ({jobs}) > ({known})
            ORDER BY {all_of} LIMIT 1) AS next
    )"""


def lines_of(condition: str) -> str:
    """SQL, a recursive CTE, `lines`: the organizations with such jobs; one probe of the index for each of them.

    Its last row is null.
    """
    return f"""lines AS (
        (SELECT organization_id FROM jobs WHERE {condition} ORDER BY organization_id LIMIT 1)
        UNION ALL
        SELECT (SELECT organization_id FROM jobs
                WHERE {condition} AND organization_id > lines.organization_id
                ORDER BY organization_id LIMIT 1)
        FROM lines WHERE lines.organization_id IS NOT NULL
    )"""


def still_holds(job: str) -> str:
    """SQL: whether what this job is held for is still so; null when it is not held.

    :gets_slot if it is in line; :is_within if the limits have room for it.
    """
    return f"""CASE {job}.hold
        WHEN 'dependency' THEN {is_uncalled(job)} OR {job}.unresolved OR {is_dependent(job)}
        WHEN 'paused' THEN {is_paused(job)}
        WHEN 'circuit' THEN {is_broken(job)}
        WHEN 'limit' THEN {is_limited(job)} AND NOT :is_within
        WHEN 'organization_limit' THEN NOT :gets_slot
        WHEN 'external' THEN true
        ELSE {job}.due_at > clock_timestamp()
    END"""


def blocked_by(job: str) -> str:
    """SQL: the hold that keeps this waiting job from its start now; null = nothing, whatever its row still says.

    :gets_slot: whether it would be among the first in line now; :is_within: whether the limits have room for it. A job
    that was sent meets the pauses, the circuit and limits that are new again when it is claimed.
    """
    return f"""(SELECT CASE
        WHEN {job}.hold IS NULL THEN {met_again(job)}
        WHEN {still_holds(job)} THEN {job}.hold
        WHEN next.hold <> 'organization_limit' AND NOT (next.hold = 'limit' AND :is_within) THEN next.hold
        WHEN NOT :gets_slot THEN 'organization_limit'
    END FROM (SELECT {next_hold(job)} AS hold) AS next)"""


def met_again(job: str) -> str:
    """SQL: the hold that a job that was sent meets when it is claimed; null = none."""
    return f"""CASE WHEN {is_paused(job)} THEN 'paused' WHEN {is_broken(job)} THEN 'circuit'
             WHEN {is_unlooked(job)} THEN 'limit' END"""


def let_through(job: str) -> str:
    """SQL, two items of a FROM: `next.hold` of a new job, and `sent.level`, the priority of its message at the broker.

    Null: it is not sent. It passes by the line while there is room and no job that is as urgent waits.
    """
    return f"""(SELECT {next_hold(job)} AS hold) AS next
         CROSS JOIN LATERAL (
             SELECT CASE WHEN next.hold = 'organization_limit' AND {is_served(job)}
                         THEN sent_level({job}.organization_id, {job}.queue, {job}.priority, :limit, :lease_timeout)
                    END AS level) AS sent"""


FIRST_HOLD = """CASE WHEN next.hold = 'organization_limit' AND sent.level IS NOT NULL THEN NULL ELSE next.hold END"""


def is_awaited(job: str) -> str:
    """SQL: whether others wait for the end of this very job: its dependents, or those that its circuit holds."""
    return f"""(EXISTS (SELECT FROM jobs AS dependent WHERE dependent.hold = 'dependency') AND has_dependents({job}.id)
                OR EXISTS (SELECT FROM circuits WHERE circuits.probe_id = {job}.id))"""


def has_line(job: str) -> str:
    """SQL: whether others wait for the slot of this job, or for its place under a limit."""
    return f"""(EXISTS (SELECT FROM jobs AS waiting
                        WHERE waiting.organization_id = {job}.organization_id AND waiting.hold = 'organization_limit')
                OR EXISTS (SELECT FROM jobs AS waiting WHERE waiting.hold = 'limit')
                   AND ({job}.limit_key IS NOT NULL
                        OR EXISTS (SELECT FROM jobs AS waiting WHERE waiting.organization_id = {job}.organization_id
                                                                 AND waiting.hold = 'limit')))"""


def leaves_place(job: str) -> str:
    """SQL: whether the start of this job lets the next of its organization take its place in the order of arrival."""
    return f"""(EXISTS (SELECT FROM jobs AS waiting
                        WHERE waiting.organization_id = {job}.organization_id AND waiting.hold = 'organization_limit'
                          AND waiting.queue = {job}.queue)
                AND {is_contended(f"{job}.organization_id", f"{job}.queue", "NULL")})"""
