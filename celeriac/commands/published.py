"""The handlers of the `celeriac up` that runs here, for commands that were told of none."""

from __future__ import annotations

import json

import click

from celeriac.embedded.processes import is_held
from tracking.errors import ConfigurationError
from tracking.settings import IMPORTS, SERVERS_FILE, Settings


def import_published(configured: Settings) -> None:
    """Import what `up` was given, unless CELERIAC_IMPORTS names handlers. Says what cannot be imported, and goes on.

    While somebody mends a handler, jobs can be listed and cancelled all the same.
    """
    for module in () if configured.imports else _published(configured):
        from tasks.app import import_handlers  # noqa: PLC0415 - it loads Celery, which most commands do without

        try:
            import_handlers(configured.model_copy(update={"imports": (module,)}))
        except ConfigurationError as error:
            click.echo(f"celeriac: {error}: without it this command knows none of its types", err=True)


def _published(configured: Settings) -> list[str]:
    """None when no `up` runs in this data directory; of a damaged file the settings tell by themselves.

    A file that somebody else has put there, in a checkout say, names nothing that is run.
    """
    try:
        found = json.loads((configured.data_dir / SERVERS_FILE).read_text()).get(IMPORTS, "")
    except (OSError, ValueError, AttributeError):
        return []
    return [module for module in str(found).split(",") if module] if is_held(configured.data_dir) else []
