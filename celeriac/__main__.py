"""`celeriac`, and `python -m celeriac`."""

from __future__ import annotations

import sys
from pathlib import Path

from celeriac import packages


def main() -> None:
    """Run the command; an error that the user can mend is one line on stderr."""
    packages.claim("api")
    sys.path.append(str(Path.cwd()))  # CELERIAC_IMPORTS may name modules of the project that we are called from
    from celeriac.cli import command  # noqa: PLC0415 - now that `api` is ours

    command(prog_name="celeriac")


if __name__ == "__main__":
    main()
