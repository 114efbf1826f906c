"""Queues of RabbitMQ that refuse messages, as one that has reached its `max-length` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import structlog

from tracking.models import Fence, JobRecord

log = structlog.get_logger(__name__)


class FullQueues:
    """Logs the beginning and the end of each refusal: what was refused is sent again at each look."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def note(self, sent: Sequence[JobRecord], refused: Collection[Fence]) -> None:
        """What has become of one batch of messages."""
        refusing = Counter(record.queue for record in sent if record.fence in refused)
        for queue_name in sorted(refusing.keys() - self._names):
            log.warning("dispatch.refused_by_broker", queue=queue_name, refused=refusing[queue_name])
        over = self._names & {record.queue for record in sent} - refusing.keys()
        for queue_name in sorted(over):
            log.info("dispatch.taken_again", queue=queue_name)
        self._names = self._names - over | refusing.keys()
