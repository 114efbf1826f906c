"""The leader's look at workflows: payloads to be filled in, and those that are over."""

from __future__ import annotations

import structlog

from tasks import workflows
from tasks.platform import Platform
from tracking.workflows import concluding

log = structlog.get_logger(__name__)

BATCH = 100  # workflows whose end is kept in one transaction


class Concluding:
    """What happens anyway when a job of a workflow ends, where a crash came between; and what is told of the whole."""

    INTERVAL = 1.0  # seconds between two looks

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def turn(self) -> bool:
        """One batch of each; whether there may be more."""
        more = workflows.fill_in(self._platform)
        with self._platform.database.begin() as connection:
            begun = concluding.tell_begun(connection, BATCH)
        with self._platform.database.begin() as connection:
            ended = concluding.conclude(connection, BATCH)
        for workflow_id in ended:
            log.info("workflow.ended", workflow_id=str(workflow_id))
        return more or max(begun, len(ended)) >= BATCH
