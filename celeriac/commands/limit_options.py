"""`celeriac limits`: how many jobs of a type, or of a key, execute at once or are sent in a time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from celeriac.commands.names import Name
from celeriac.commands.program import Commands
from celeriac.commands.reaching import reaching

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.client.limits import JobLimit
    from celeriac.commands.screen import Columns, Screen

PERIODS = {"s": "second", "m": "minute", "h": "hour"}
PERS = ("platform", "organization", "key")


class Rate(click.ParamType[tuple[int, str]]):
    """A number of jobs in a second, minute or hour, as Celery writes it: 100/m."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, str]:
        """The number and the period."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([1-9][0-9]{0,6})/([smh])", value)
        if found is None:
            self.fail(f"{value!r} is no rate such as 10/s, 100/m or 1000/h", param, ctx)
        return int(found[1]), PERIODS[found[2]]


@click.group(cls=Commands)
def limits() -> None:
    """Say how many jobs of a type execute at once, or are sent in a time: in all, per organization, or per key."""


@limits.command("list")
@reaching
def list_limits(*, client: Client, screen: Screen) -> None:
    """List them."""
    screen.rows(client.limits(), COLUMNS, empty="There is no limit.")


@limits.command("set")
@click.option("--type", "--job-type", "job_type", type=Name(), help="Of these jobs. [default: of all, as a rate]")
@click.option(
    "--per",
    type=click.Choice(PERS),
    default="organization",
    show_default=True,
    help="What has a count of its own: the platform, each organization, or each key in one.",
)
@click.option("--only", "of", type=Name(), metavar="ORGANIZATION", help="Of this organization, instead of the rest.")
@click.option("--key", type=Name(), help="Where the payload has the key, such as account.id. [default: the handler's]")
@click.option("--concurrency", type=click.IntRange(1), help="How many execute at once. [default: any number]")
@click.option("--rate", type=Rate(), help="How many are sent, such as 10/s, 100/m or 1000/h. [default: any number]")
@reaching
def set_limit(*, client: Client, screen: Screen, job_type: str | None, per: Any, of: str | None, **most: Any) -> None:
    """Set one, in the place of the one for the same type and the same organization."""
    _show(screen, client.put_limit(per, job_type=job_type, organization=of, **most))


@limits.command("remove")
@click.argument("limit_id", type=click.UUID, metavar="ID")
@reaching
def remove_limit(*, client: Client, screen: Screen, limit_id: UUID) -> None:
    """Take one away; what waited for it is let through."""
    client.remove_limit(limit_id)
    screen.say(f"{limit_id}: removed.")


def _rate(limit: JobLimit) -> str | None:
    return f"{limit.rate.jobs}/{limit.rate.per}" if limit.rate else None


COLUMNS: Columns = {
    "id": lambda limit: limit.id,
    "type": lambda limit: limit.job_type or "(all types)",
    "organization": lambda limit: limit.organization or "(all)",
    "per": lambda limit: f"key {limit.key}" if limit.key else limit.per,
    "at once": lambda limit: limit.concurrency,
    "rate": _rate,
    "changed": lambda limit: limit.changed_at,
    "by": lambda limit: limit.changed_by,
}


def _show(screen: Screen, found: JobLimit) -> None:
    screen.one(found, {name: of(found) for name, of in COLUMNS.items()})
