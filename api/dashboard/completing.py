"""What the search of the page of the jobs completes: qualifiers, and the values of those that have some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice

from api.dashboard.schemas import fields_of, flat
from api.dashboard.searching import QUALIFIERS
from api.dashboard.site import Visit
from api.permissions import MANAGE_PLATFORM
from tasks.catalog import takers
from tracking import workers
from tracking.states import Status

MOST_PLACES = 60  # in payloads
MOST_WORKERS = 200


def completions(visit: Visit, served: AbstractSet[str]) -> Mapping[str, Sequence[str]]:
    """Values by qualifier; the names of workers, and the queues that are `served`, are for operators alone."""
    known = takers(visit.platform)
    found: dict[str, Sequence[str]] = dict.fromkeys((name for name in QUALIFIERS if name != "payload.path"), ())
    found |= {"status": tuple(Status), "type": sorted(known), "priority": (*map(str, range(9, -1, -1)), ">=5")}
    if MANAGE_PLATFORM in visit.principal.permissions:
        names = visit.read(workers.live_names, visit.platform.limits.lease_timeout, most=MOST_WORKERS)
        found |= {"queue": sorted(served), "worker": names}
    places = {
        field.name: tuple(field.choices)
        for taker in known.values()
        for field in flat(fields_of(taker.payload_schema()) or ())
        if field.kind != "group"
    }
    return {**found, **dict(islice(sorted(places.items()), MOST_PLACES))}
