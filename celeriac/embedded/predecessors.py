"""The workers that were started here before: by their leases the next one takes back at once what they ran.

Nobody else starts workers on a data directory that an `up` holds, so when it starts one, all earlier ones are dead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from uuid_utils.compat import uuid7

from celeriac.embedded.processes import kill_marked, write_private

FILE = "worker.leases"
LEASE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Each start adds one, and one that died before it could take back anything leaves it to the next. Ten starts of a
# worker that keeps dying take longer than its lease.
KEPT = 10


def options(data_dir: Path) -> list[str]:
    """What `celeriac worker` is told: the lease that it is to have, noted here, and those of the dead."""
    earlier, lease = _noted(data_dir), str(uuid7())
    for each in earlier:
        kill_marked(each)  # a body goes on when the main process of its worker is killed
    write_private(data_dir / FILE, "".join(f"{each}\n" for each in [*earlier, lease][-KEPT:]))
    return ["--lease", lease, *(["--instead-of", ",".join(earlier)] if earlier else [])]


def _noted(data_dir: Path) -> Sequence[str]:
    """The leases alone: of a damaged file another word may be in the command line of anybody's process."""
    try:
        words = (data_dir / FILE).read_text(errors="replace").split()
    except FileNotFoundError:
        return []
    return [word for word in words if LEASE.fullmatch(word)]
