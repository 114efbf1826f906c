"""`celeriac`, and `python -m celeriac`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from celeriac import garbage, packages

INTERRUPTED = 130  # as tracking.exit_status says it, of which nothing is imported yet
LASTING = ("api", "up", "worker")  # run until they are told to stop


def main() -> None:
    """Run the command; an error that the user can mend is one line on stderr."""
    garbage.leave_imports_alone()
    if next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None) in LASTING:
        # Until what they start has its own handler. No sys.exit: imports swallow what is raised in their callbacks.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell may have it ignored
    if is_heard:  # in the midst of an import it would be a traceback
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    packages.claim("api")
    sys.path.append(str(Path.cwd()))  # CELERIAC_IMPORTS may name modules of the project that we are called from
    from celeriac.commands.cli import command  # noqa: PLC0415 - now that `api` is ours

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command(prog_name="celeriac")


if __name__ == "__main__":
    main()
