"""cleanup: removes the organization's old exports, and files that nobody will ask for."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import Literal

from pydantic import Field

from tasks import BaseModel, Job, app
from tasks.exports.files import Export, exports, is_valid, job_of, remove_drafts
from tasks.handlers.identity import identity_of
from tracking.models import JobRecord
from tracking.states import FINISHED

DAY = 86_400
HOUR = 3_600


class CleanUp(BaseModel):
    """How old, in days, an export may become."""

    older_than_days: int = Field(default=30, ge=1, le=3650)


class CleanedUp(BaseModel):
    """Counts of removed files. `orphaned_exports`: their job is gone; `invalid_exports`: it failed or was cancelled.

    `kept_exports` are the organization's own that are left; `freed_bytes` without drafts.
    """

    expired_exports: int
    invalid_exports: int
    orphaned_exports: int
    drafts: int
    kept_exports: int
    freed_bytes: int


Verdict = Literal["expired", "invalid", "orphaned", "kept", "foreign"]
REMOVED: tuple[Verdict, ...] = ("expired", "invalid", "orphaned")


@app.task(
    bind=True,
    pydantic=True,
    name="cleanup",
    permission="maintenance.run_cleanup",
    steps=("Exports", "Drafts"),
    autoretry_for=(ConnectionError,),
    retry_backoff=True,
    max_retries=3,
    soft_time_limit=3600,
    time_limit=3660,
)
def cleanup(self: Job, payload: CleanUp) -> CleanedUp:
    """Remove the organization's exports of a certain age, leftovers of failed ones, and files without a job."""
    organization, platform = identity_of(self).organization_id, self.app.platform
    directory = platform.settings.exports
    counts: Counter[Verdict] = Counter()
    freed = 0
    with self.step("Exports", 1, of=2, percent=90):
        for export in exports(directory):
            with suppress(FileNotFoundError):  # another clean-up was faster
                verdict = _judge(export, job_of(platform.database, export), organization, payload.older_than_days * DAY)
                freed += _remove(export) if verdict in REMOVED else 0
                counts[verdict] += 1
            self.progress(0, f"{counts.total():,} files looked at")
    with self.step("Drafts", 2, of=2):
        drafts = remove_drafts(directory, older_than=DAY)
    return CleanedUp(
        expired_exports=counts["expired"],
        invalid_exports=counts["invalid"],
        orphaned_exports=counts["orphaned"],
        drafts=drafts,
        kept_exports=counts["kept"],
        freed_bytes=freed,
    )


def _judge(export: Export, job: JobRecord | None, organization: str, oldest: float) -> Verdict:
    age = time.time() - export.path.stat().st_mtime
    if job is None:
        # Another installation may share the directory, so a file whose job is unknown here is kept for that age too.
        return "orphaned" if age > oldest else "foreign"
    if job.organization_id != organization:
        return "foreign"
    if job.status in FINISHED and not is_valid(export, job) and age > HOUR:
        return "invalid"
    return "expired" if age > oldest else "kept"


def _remove(export: Export) -> int:
    size = export.path.stat().st_size
    export.path.unlink()
    return size
