"""`celeriac`, and `python -m celeriac`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from celeriac import garbage, packages

LASTING = ("api", "up", "worker")  # run until they are told to stop


def main() -> None:
    """Run the command; an error that the user can mend is one line on stderr."""
    garbage.leave_imports_alone()
    if next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None) in LASTING:
        # Until what they start has its own handler. No sys.exit: imports swallow what is raised in their callbacks.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    packages.claim("api")
    sys.path.append(str(Path.cwd()))  # CELERIAC_IMPORTS may name modules of the project that we are called from
    from celeriac.commands.cli import command  # noqa: PLC0415 - now that `api` is ours

    command(prog_name="celeriac")


if __name__ == "__main__":
    main()
