"""Celery's own command line on our app: what its user has set wrongly ends it as it ends the `celeriac` command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tracking.errors import ConfigurationError
from tracking.exits import Exit


@contextmanager
def wrong_settings_told() -> Iterator[None]:
    """Within `celery -A tasks …`: a ConfigurationError is one line on stderr and an exit status, not a traceback."""
    try:
        yield
    except ConfigurationError as error:
        if not _is_celerys():
            raise
        sys.stderr.write(f"celeriac: {error}\n")
        raise SystemExit(Exit.MISUSED) from None


def _is_celerys() -> bool:
    click = sys.modules.get("click")  # which a command line has loaded
    context = click.get_current_context(silent=True) if click is not None else None
    return context is not None and context.find_root().command.name == "celery"
