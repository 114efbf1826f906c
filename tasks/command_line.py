"""Celery's own command line on our app: which command runs here, and how one ends that its user has set wrongly."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tracking.errors import ConfigurationError
from tracking.exit_status import Exit


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


def celerys_command() -> str | None:
    """Which command of Celery's this process runs, such as worker or flower; None: none of them.

    By the arguments, since Flower asks from threads that know no context of click's.
    """
    line = sys.modules.get("celery.bin.celery")
    return next((word for word in sys.argv[1:] if word in line.celery.commands), None) if line is not None else None


def _is_celerys() -> bool:
    click = sys.modules.get("click")  # which a command line has loaded
    context = click.get_current_context(silent=True) if click is not None else None
    return context is not None and context.find_root().command.name == "celery"
