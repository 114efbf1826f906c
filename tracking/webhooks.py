"""Webhooks: who wants to be told of the jobs of an organization, at which address, and signed with which secret."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tracking import audit
from tracking.audit import Deed
from tracking.audited import Action
from tracking.columns import columns_of
from tracking.errors import TooManySecrets, TooManyWebhooks, WebhookNotFound
from tracking.origins import By
from tracking.sql import own
from tracking.webhook_tables import webhooks

MOST = 50  # of an organization
FIRST = UUID(int=0)  # before all of them
SECRET_BYTES = 32  # Standard Webhooks: 24 to 64
ROTATION = timedelta(hours=24)  # in which a secret that was replaced signs beside the new one
MOST_FORMER = 10  # secrets that sign beside the new one: each adds a signature to each delivery
PATIENCE = timedelta(days=5)  # of failures without a success, until a webhook is disabled

# Deliveries are jobs of an organization beside the one that they tell of: they take none of its slots, stand in no line
# of it, and are in none of its lists. Nobody has a token for it.
DELIVERING = "webhooks:"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a webhook listens to, and where it is told. None narrows nothing."""

    url: str
    events: tuple[str, ...]
    job_types: tuple[str, ...] | None = None
    project_id: str | None = None
    description: str | None = None
    enabled: bool = True

    def wants(self, event: str, job_type: str | None, project_id: str | None) -> bool:
        """Whether it is told of such an event of such a job. `job_type` None: of a workflow, whatever its jobs are."""
        return (
            event in self.events
            and (None in (self.job_types, job_type) or job_type in (self.job_types or ()))
            and self.project_id in (None, project_id)
        )


@dataclass(frozen=True, slots=True)
class Webhook:
    """A row of `webhooks`. `secrets`: those that sign now, base64, the newest first.

    `failing_since`: the first failure of this address after the last success. `disabled_because`: why the platform has
    disabled it.
    """

    id: UUID
    organization_id: str
    wanted: Wanted
    disabled_because: str | None
    failing_since: datetime | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    former_until: datetime | None
    secrets: tuple[str, ...] = field(repr=False)


def create(connection: Connection, webhook_id: UUID, organization_id: str, wanted: Wanted, by: By) -> Webhook:
    """Tell this address of what happens from now on. Raises TooManyWebhooks. Wants a transaction."""
    connection.execute(LOCK, {"organization_id": organization_id})
    if connection.execute(COUNT, {"organization_id": organization_id}).scalar_one() >= MOST:
        raise TooManyWebhooks(f"an organization has {MOST} webhooks at most")
    parameters = {"id": webhook_id, "organization_id": organization_id, "secret": new_secret(), "actor": by.actor}
    created = _webhook(connection.execute(CREATE, {**parameters, **_said(wanted)}).one())
    connection.execute(BEGIN)
    _tell(connection, Action.CREATE_WEBHOOK, created, by)
    return created


def change(connection: Connection, webhook_id: UUID, organization_id: str, wanted: Wanted, by: By) -> Webhook:
    """Let a webhook be what `wanted` says; one that is enabled again begins without failures.

    Raises WebhookNotFound. Wants a transaction.
    """
    parameters = {"id": webhook_id, "organization_id": organization_id, **_said(wanted)}
    changed = _found(connection.execute(CHANGE, parameters).first())
    if wanted.enabled:
        connection.execute(BEGIN)
    _tell(connection, Action.CHANGE_WEBHOOK, changed, by)
    return changed


def rotate(connection: Connection, webhook_id: UUID, organization_id: str, by: By) -> Webhook:
    """A new secret; those before it sign beside it, each for ROTATION since it was replaced.

    Raises WebhookNotFound, or TooManySecrets. Wants a transaction.
    """
    parameters = {"id": webhook_id, "organization_id": organization_id, "secret": new_secret(), "rotation": ROTATION}
    row = connection.execute(ROTATE, parameters).first()
    if row is None and len(get(connection, webhook_id, organization_id).secrets) > MOST_FORMER:
        raise TooManySecrets(f"the webhook has {MOST_FORMER} former secrets that sign still")
    rotated = _found(row)
    _tell(connection, Action.ROTATE_WEBHOOK, rotated, by)
    return rotated


def remove(connection: Connection, webhook_id: UUID, organization_id: str, by: By) -> None:
    """Tell this address of nothing more, not of what waits either. Raises WebhookNotFound. Wants a transaction."""
    removed = _found(connection.execute(REMOVE, {"id": webhook_id, "organization_id": organization_id}).first())
    _tell(connection, Action.REMOVE_WEBHOOK, removed, by)


def get(connection: Connection, webhook_id: UUID, organization_id: str) -> Webhook:
    """One webhook of an organization. Raises WebhookNotFound."""
    return _found(connection.execute(GET, {"id": webhook_id, "organization_id": organization_id}).first())


def page(connection: Connection, organization_id: str | None, *, after: UUID | None, size: int) -> Sequence[Webhook]:
    """Those of an organization (None: of all of them), the oldest first, behind this one (None: the first ones)."""
    given = {"organization_id": organization_id, "after": after or FIRST, "size": size}
    return [_webhook(row) for row in connection.execute(EVERYWHERE if organization_id is None else PAGE, given)]


def find(connection: Connection, webhook_id: UUID) -> Webhook | None:
    """A webhook, whosever it is, for those who deliver; None: it was removed."""
    row = connection.execute(FIND, {"id": webhook_id}).first()
    return None if row is None else _webhook(row)


def listening(connection: Connection, organization_ids: Iterable[str]) -> Sequence[Webhook]:
    """Those of these organizations that are told of anything."""
    return [_webhook(row) for row in connection.execute(LISTENING, {"organization_ids": sorted(organization_ids)})]


def position(connection: Connection) -> int | None:
    """Up to which row of the history all who listen were told; None: nobody listens."""
    return connection.execute(POSITION).scalar_one_or_none()


def advance(connection: Connection, to: int) -> None:
    """Remember how far those who listen were told. With nobody who listens there is nothing to remember."""
    connection.execute(ADVANCE, {"to": to})


def restart(connection: Connection) -> None:
    """Tell those who listen of what is written from now on: what was remembered is of another history."""
    connection.execute(RESTART)


def was_delivered(connection: Connection, webhook_id: UUID) -> None:
    """Its address has taken something."""
    connection.execute(DELIVERED, {"id": webhook_id})


def was_refused(connection: Connection, webhook_id: UUID, *, because: str | None) -> bool:
    """Its address has not taken something. True: it is disabled now, as `because` says, or for failing for PATIENCE."""
    parameters = {"id": webhook_id, "because": because, "patience": PATIENCE, "days": str(PATIENCE.days)}
    return bool(connection.execute(REFUSED, parameters).scalar())


def close_circuits(connection: Connection, job_type: str) -> int:
    """Close those of webhooks that are told of nothing more: what waits there fails by itself, and without its address.

    `job_type`: of deliveries. Returns how many.
    """
    return connection.execute(CLOSE, {"job_type": job_type}).rowcount


@dataclass(frozen=True, slots=True)
class Happened:
    """What of a row of history, and of its job, a delivery tells beyond what the tail knows.

    `result`: of a success, unless it is larger than was asked for.
    """

    at: datetime
    has_result: bool
    result: Any


def happened(connection: Connection, history_ids: Sequence[int], *, most_bytes: int) -> Mapping[int, Happened]:
    """What is told of these rows of history, by their ids."""
    rows = connection.execute(HAPPENED, {"ids": list(history_ids), "most_bytes": most_bytes})
    return {row.id: Happened(row.at, row.has_result, row.result) for row in rows}


def delivering(organization_id: str) -> str:
    """The organization whose jobs are the deliveries of this one."""
    return f"{DELIVERING}{organization_id}"


def new_secret() -> str:
    """A secret, base64."""
    return base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def _said(wanted: Wanted) -> dict[str, Any]:
    return {
        "url": wanted.url,
        "events": list(wanted.events),
        "job_types": None if wanted.job_types is None else list(wanted.job_types),
        "project_id": wanted.project_id,
        "description": wanted.description,
        "enabled": wanted.enabled,
    }


def _webhook(row: Any) -> Webhook:
    job_types = None if row.job_types is None else tuple(row.job_types)
    wanted = Wanted(row.url, tuple(row.events), job_types, row.project_id, row.description, row.enabled)
    return Webhook(
        id=row.id,
        organization_id=row.organization_id,
        wanted=wanted,
        disabled_because=row.disabled_because,
        failing_since=row.failing_since,
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
        former_until=row.living_until,
        secrets=(row.secret, *([] if row.living_until is None else [row.former_secret, *row.living_earlier])),
    )


def _found(row: Any) -> Webhook:
    if row is None:
        raise WebhookNotFound
    return _webhook(row)


def _tell(connection: Connection, action: Action, webhook: Webhook, by: By) -> None:
    detail = {"url": webhook.wanted.url, "events": list(webhook.wanted.events), "enabled": webhook.wanted.enabled}
    audit.write(connection, by.origin, Deed(action, by.actor, webhook.organization_id, str(webhook.id), detail=detail))


# Each was replaced before the one that stands before it.
_EARLIER = """FROM jsonb_array_elements(earlier_secrets) WITH ORDINALITY AS each (said, place)
                WHERE CAST(said ->> 'until' AS timestamptz) > clock_timestamp()"""
_COLUMNS = f"""{columns_of(webhooks)},
         CASE WHEN former_until > clock_timestamp() THEN former_until END AS living_until,
         ARRAY(SELECT said ->> 'secret' {_EARLIER} ORDER BY place) AS living_earlier"""
_OF_ORGANIZATION = f"id = :id AND {own()}"

LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('webhooks of ' || :organization_id, 0))")

COUNT = text(f"SELECT count(*) FROM webhooks WHERE {own()}")

CREATE = text(
    f"""
    INSERT INTO webhooks (id, organization_id, url, events, job_types, project_id, description, enabled, secret,
                          created_by)
    VALUES (:id, :organization_id, :url, CAST(:events AS text[]), CAST(:job_types AS text[]), :project_id,
            :description, :enabled, :secret, :actor)
    RETURNING {_COLUMNS}"""
)

CHANGE = text(
    f"""
    UPDATE webhooks
    SET url = :url, events = CAST(:events AS text[]), job_types = CAST(:job_types AS text[]), project_id = :project_id,
        description = :description, enabled = :enabled, updated_at = clock_timestamp(),
        disabled_because = CASE WHEN CAST(:enabled AS boolean) THEN NULL ELSE disabled_because END,
        failing_since = CASE WHEN enabled = CAST(:enabled AS boolean) AND url = :url THEN failing_since END
    WHERE {_OF_ORGANIZATION}
    RETURNING {_COLUMNS}"""
)

ROTATE = text(
    f"""
    UPDATE webhooks
    SET former_secret = secret, former_until = clock_timestamp() + CAST(:rotation AS interval), secret = :secret,
        earlier_secrets = CASE WHEN former_until > clock_timestamp()
                          THEN jsonb_build_array(jsonb_build_object('secret', former_secret, 'until', former_until))
                               || (SELECT coalesce(jsonb_agg(said ORDER BY place), '[]') {_EARLIER})
                          ELSE '[]' END,
        updated_at = clock_timestamp()
    WHERE {_OF_ORGANIZATION} AND (SELECT count(*) {_EARLIER}) < {MOST_FORMER - 1}
    RETURNING {_COLUMNS}"""
)

REMOVE = text(f"DELETE FROM webhooks WHERE {_OF_ORGANIZATION} RETURNING {_COLUMNS}")

GET = text(f"SELECT {_COLUMNS} FROM webhooks WHERE {_OF_ORGANIZATION}")

FIND = text(f"SELECT {_COLUMNS} FROM webhooks WHERE id = :id")

# Ids are in the order in which they were made.
_BEHIND = "id > CAST(:after AS uuid) ORDER BY id LIMIT :size"

PAGE = text(f"SELECT {_COLUMNS} FROM webhooks WHERE {own()} AND {_BEHIND}")

EVERYWHERE = text(f"SELECT {_COLUMNS} FROM webhooks WHERE {_BEHIND}")

LISTENING = text(
    f"SELECT {_COLUMNS} FROM webhooks WHERE organization_id = ANY(CAST(:organization_ids AS text[])) AND enabled"
)

# Who begins to listen is told of what is written from then on, also when no leader is there at that moment.
BEGIN = text(
    """
    INSERT INTO webhook_position (history_id) SELECT coalesce(pg_sequence_last_value('history_id_seq'), 0)
    WHERE EXISTS (SELECT FROM webhooks WHERE enabled)
    ON CONFLICT DO NOTHING"""
)

POSITION = text("SELECT history_id FROM webhook_position")

ADVANCE = text(
    """
    WITH forgotten AS (
        DELETE FROM webhook_position WHERE NOT EXISTS (SELECT FROM webhooks WHERE enabled)
    )
    UPDATE webhook_position SET history_id = :to, moved_at = clock_timestamp()
    WHERE EXISTS (SELECT FROM webhooks WHERE enabled)"""
)

RESTART = text("UPDATE webhook_position SET history_id = coalesce(pg_sequence_last_value('history_id_seq'), 0)")

DELIVERED = text("UPDATE webhooks SET failing_since = NULL WHERE id = :id AND failing_since IS NOT NULL")

_IS_OVER = "(CAST(:because AS text) IS NOT NULL OR failing_since < clock_timestamp() - CAST(:patience AS interval))"

REFUSED = text(
    f"""
    UPDATE webhooks
    SET failing_since = coalesce(failing_since, clock_timestamp()), enabled = NOT coalesce({_IS_OVER}, false),
        disabled_because = CASE WHEN {_IS_OVER}
                           THEN coalesce(CAST(:because AS text), 'it has failed for ' || :days || ' days') END
    WHERE id = :id AND enabled AND (failing_since IS NULL OR {_IS_OVER})
    RETURNING NOT enabled"""
)

CLOSE = text(
    """
    DELETE FROM circuits
    WHERE job_type = :job_type
      AND NOT EXISTS (SELECT FROM webhooks WHERE CAST(webhooks.id AS text) = circuits.key AND enabled)"""
)

# Each job by its key: in a week that has just begun the planner expects many more rows of these ids, and would rather
# read all jobs.
HAPPENED = text(
    """
    SELECT history.id, history.at, job.result IS NOT NULL AS has_result,
           CASE WHEN octet_length(CAST(job.result AS text)) <= :most_bytes THEN job.result END AS result
    FROM history LEFT JOIN LATERAL (
        SELECT result FROM jobs WHERE jobs.id = history.job_id AND history.to_status = 'succeeded'
        OFFSET 0) AS job ON true
    WHERE history.id = ANY(CAST(:ids AS bigint[]))"""
)
