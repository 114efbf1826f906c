"""Turns between organizations whose lines want the same free slots: who is served before whom.

Each look gives every organization in turn one slot, then two, then four more, in the order of their names; one with a
greater weight as many times as much.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from tracking.admission.first import entitled_to, first_in_line
from tracking.admission.rule import (
    SENT,
    free_slots,
    in_flight,
    is_before,
    is_served,
    joins_line,
    limit_of,
    lines_of,
    next_hold,
    weight_of,
)
from tracking.models import JobRecord
from tracking.sql import listed
from tracking.states import IN_LINE


def served_before(place: int, weight: int) -> tuple[int, int]:
    """How many jobs for its weight an earlier, and a later, organization may have had when another's `place`-th comes.

    `weight`: of that other one.
    """
    with_this_round = (1 << (-(-place // weight)).bit_length()) - 1
    return with_this_round, with_this_round >> 1


def gets_slot(connection: Connection, job: JobRecord, parameters: dict[str, object], most: int) -> bool:
    """Whether a look at the lines would send this waiting job now, if nothing else held it.

    Looks at `most` places of its organization; `parameters` are those of the limits.
    """
    about = {"id": job.id, "organization_id": job.organization_id, **parameters}
    place = connection.execute(PLACE, {**about, "batch": most}).first()
    if place is None:
        return bool(connection.execute(IS_GIVEN_WAY, about).scalar_one())
    if place.is_entitled or place.free is None:
        return True
    by_earlier, by_later = served_before(place.number, place.weight)
    others = {**about, "shared": place.shared, "by_earlier": by_earlier, "by_later": by_later}
    return bool(place.number + connection.execute(TAKEN_BEFORE, others).scalar_one() <= place.free)


# As the look would find it that lets jobs through: who meets something else meanwhile steps aside for the others, but
# not for one that is stopped itself: what stops both would be over for both.
_IS_STOPPED = (
    f"(SELECT {next_hold('this', joins='true')} NOT IN ({listed(IN_LINE)}) FROM jobs AS this WHERE this.id = :id)"
)
_IS_NEXT = f"({next_hold('waiting', joins='true')} = 'organization_limit' OR {_IS_STOPPED})"
_OTHERS = f"(waiting.id <> :id AND {_IS_NEXT})"
_ITSELF = "SELECT organization_id, id, queue, priority, created_at FROM jobs WHERE id = :id"

# Its place among those that get what is free for its organization. The first of one that has less with the
# broker than its weight need no free slot; without a worker there are none to share, and without a limit and others it
# shares with nobody.
PLACE = text(
    f"""
    WITH RECURSIVE {first_in_line(_OTHERS, _ITSELF)}
    SELECT first.place AS number, shared,
           CASE WHEN {joins_line(":organization_id", "first.queue")}
                THEN {free_slots("first.queue", "shared")} END AS free,
           first.place <= {entitled_to(":organization_id", "shared")} AS is_entitled,
           {weight_of(":organization_id")} AS weight
    FROM first JOIN rooms USING (queue) WHERE first.id = :id"""
)

# When a job comes into a full line, one that was sent and is less urgent gives way to the most urgent in the line. For
# a job that stands in the line already, that was so when it came.
IS_GIVEN_WAY = text(
    f"""
    SELECT EXISTS (
        SELECT FROM jobs AS this
        WHERE id = :id AND hold <> 'organization_limit' AND {is_served("this")}
          AND EXISTS (SELECT FROM jobs WHERE organization_id = :organization_id AND {SENT}
                                         AND queue = this.queue AND priority < this.priority)
          AND NOT EXISTS (SELECT FROM jobs AS waiting
                          WHERE waiting.organization_id = :organization_id AND waiting.hold = 'organization_limit'
                            AND waiting.queue = this.queue AND {is_before("waiting", "this")}))"""
)

# The order of the names is that of their characters' numbers, as Python sorts them.
TAKEN_BEFORE = text(
    f"""
    WITH RECURSIVE {lines_of("hold = 'organization_limit'")}, others AS (
        SELECT organization_id, {limit_of("organization_id")} AS own_limit,
               CASE WHEN organization_id COLLATE "C" < :organization_id THEN CAST(:by_earlier AS int)
                    ELSE CAST(:by_later AS int) END * {weight_of("organization_id")} AS most
        FROM lines WHERE organization_id <> :organization_id
    )
    SELECT coalesce(sum(least(
               CASE WHEN own_limit > 0
                    THEN greatest(0, own_limit - {in_flight("others.organization_id")}) ELSE most END,
               (SELECT count(*) FROM (
                    SELECT FROM jobs AS waiting
                    WHERE waiting.organization_id = others.organization_id AND waiting.hold = 'organization_limit'
                      AND waiting.queue = ANY(CAST(:shared AS text[])) AND {_IS_NEXT}
                    LIMIT most) AS counted))), 0)
    FROM others"""
)
