"""`celeriac webhooks`: web addresses that are told what happens, and what they were told."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from celeriac.commands.names import Name
from celeriac.commands.program import Commands
from celeriac.commands.reaching import reaching

if TYPE_CHECKING:
    from celeriac.client import Client
    from celeriac.client.kept import Webhook
    from celeriac.commands.screen import Columns, Screen


ID = click.argument("webhook_id", metavar="ID", type=click.UUID)
EVENTS = click.option(
    "--event", "events", multiple=True, help="Such as job.failed; may be repeated. [default: all ends of jobs]"
)
TYPES = click.option(
    "--type", "--job-type", "job_types", multiple=True, type=Name(), help="Of these types. [default: all]"
)


@click.group("webhooks", cls=Commands)
def webhooks() -> None:
    """Tell web addresses what happens to jobs, workflows and schedules."""


@webhooks.command("list")
@reaching
def list_webhooks(*, client: Client, screen: Screen) -> None:
    """List them, the oldest first."""
    screen.rows(client.webhooks(), COLUMNS, empty="There is no webhook.")


@webhooks.command("show")
@ID
@reaching
def show_webhook(*, client: Client, screen: Screen, webhook_id: UUID) -> None:
    """Show one."""
    _show(screen, client.webhook(webhook_id))


@webhooks.command("add")
@click.argument("url")
@EVENTS
@TYPES
@click.option("--project", "project_id", type=Name(), help="Of this project. [default: all]")
@click.option("--description", help="For people.")
@reaching
def add_webhook(*, client: Client, screen: Screen, url: str, **wanted: Any) -> None:
    """Tell an address from now on. Its secret is printed this once: keep it where messages are checked."""
    made = client.create_webhook(url, **{name: value for name, value in wanted.items() if value})
    screen.one(made, {**_facts(made), "secret": made.secret})


@webhooks.command("change")
@ID
@EVENTS
@TYPES
@click.option("--url")
@click.option("--description")
@click.option("--enable/--disable", "enabled", default=None, help="Go on telling it, or tell it nothing for now.")
@reaching
def change_webhook(*, client: Client, screen: Screen, webhook_id: UUID, **changes: Any) -> None:
    """Change what is said here."""
    said = {name: value for name, value in changes.items() if value not in (None, ())}
    _show(screen, client.change_webhook(webhook_id, **said))


@webhooks.command("remove")
@ID
@reaching
def remove_webhook(*, client: Client, screen: Screen, webhook_id: UUID) -> None:
    """Tell it nothing more."""
    client.remove_webhook(webhook_id)
    screen.say(f"{webhook_id}: removed.")


@webhooks.command("rotate")
@ID
@reaching
def rotate_secret(*, client: Client, screen: Screen, webhook_id: UUID) -> None:
    """Make a new secret, printed this once; for a day messages are signed with the former one as well."""
    made = client.rotate_secret(webhook_id)
    screen.one(made, {**_facts(made), "secret": made.secret})


@webhooks.command("test")
@ID
@reaching
def test_webhook(*, client: Client, screen: Screen, webhook_id: UUID) -> None:
    """Send it a message, and print the id of the delivery."""
    _print_sent(screen, client.test_webhook(webhook_id))


@webhooks.command("deliveries")
@ID
@click.option("--status", type=click.Choice(["queued", "running", "retrying", "succeeded", "failed", "cancelled"]))
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000_000), help="At most.")
@reaching
def list_deliveries(*, client: Client, screen: Screen, webhook_id: UUID, status: Any, limit: int) -> None:
    """List what it was told, newest first, and what became of it."""
    found = client.deliveries(webhook_id, status=status)
    screen.rows(islice(found, limit), DELIVERIES, empty="It was told nothing yet.")


@webhooks.command("redeliver")
@ID
@click.argument("delivery_id", metavar="DELIVERY", type=click.UUID)
@reaching
def redeliver(*, client: Client, screen: Screen, webhook_id: UUID, delivery_id: UUID) -> None:
    """Send a message again, and print the id of the new delivery."""
    _print_sent(screen, client.redeliver(webhook_id, delivery_id))


COLUMNS: Columns = {
    "id": lambda hook: hook.id,
    "url": lambda hook: hook.url,
    "is": lambda hook: "enabled" if hook.enabled else hook.disabled_because or "disabled",
    "events": lambda hook: hook.events,
    "types": lambda hook: hook.job_types,
    "project": lambda hook: hook.project_id,
    "description": lambda hook: hook.description,
}
DELIVERIES: Columns = {
    "id": lambda delivery: delivery.id,
    "event": lambda delivery: delivery.event,
    "about": lambda delivery: delivery.workflow_id or delivery.schedule_id or delivery.job_id,
    "status": lambda delivery: delivery.status,
    "answer": lambda delivery: delivery.answer,
    "attempts": lambda delivery: delivery.attempts,
    "created": lambda delivery: delivery.created_at,
    "error": lambda delivery: delivery.error,
}


def _facts(found: Webhook) -> dict[str, Any]:
    return {name: of(found) for name, of in COLUMNS.items()}


def _show(screen: Screen, found: Webhook) -> None:
    screen.one(found, _facts(found))


def _print_sent(screen: Screen, delivery_id: UUID) -> None:
    if screen.as_json:
        click.echo(f'{{"deliveryId": "{delivery_id}"}}')
    else:
        click.echo(str(delivery_id))
