"""The leader's look at workflows: payloads to be filled in, and those that are over."""

from __future__ import annotations

import structlog

from tasks import workflows
from tasks.platform import Platform
from tracking.admission import holds
from tracking.workflows import concluding

log = structlog.get_logger(__name__)

BATCH = 100  # workflows whose end is kept in one transaction


class Concluding:
    """What happens anyway when a job of a workflow ends, where a crash came between; and what is told of the whole."""

    INTERVAL = 1.0  # seconds between two looks

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._unfilled = holds.FIRST  # after it, the jobs that the next look at payloads is for

    def turn(self) -> bool:
        """One batch of each; whether there may be more."""
        more = self._fill_in()
        with self._platform.database.begin() as connection:
            begun = concluding.tell_begun(connection, BATCH)
        with self._platform.database.begin() as connection:
            ended = concluding.conclude(connection, BATCH)
        for workflow_id in ended:
            log.info("workflow.ended", workflow_id=str(workflow_id))
        return more or max(begun, len(ended)) >= BATCH

    def _fill_in(self) -> bool:
        """Fill in what one window has; the next look is for the next one, unless there is more in this."""
        with self._platform.database.autocommit() as connection:
            end = holds.end_of_window(connection, self._unfilled)
        is_full = workflows.fill_in(self._platform, after=self._unfilled)
        if not is_full:
            self._unfilled = end
        return is_full
