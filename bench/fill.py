"""Puts no-op jobs on a queue, in a process of its own: `python -m bench.fill plain|tracked TASK QUEUE=COUNT …`."""

from __future__ import annotations

import sys

BATCH = 200


def fill_plain(name: str, queue: str, count: int) -> None:
    """Send as a Celery user does."""
    from bench.plain import app  # noqa: PLC0415 - each side has its own environment

    task = app.tasks[name]
    with app.producer_or_acquire() as producer:
        for _ in range(count):
            task.apply_async(queue=queue, producer=producer)


def fill_tracked(name: str, queue: str, count: int) -> None:
    """Commit the rows and publish their messages, many at a time: the filling is not what is measured."""
    from tasks import app  # noqa: PLC0415 - each side has its own environment
    from tasks.broker.publisher import Publisher  # noqa: PLC0415 - as above
    from tasks.calls import new_job  # noqa: PLC0415 - as above
    from tasks.submission import whole_organization  # noqa: PLC0415 - as above
    from tracking import jobs  # noqa: PLC0415 - as above
    from tracking.models import Submitted  # noqa: PLC0415 - as above

    platform = app.platform
    publisher = Publisher(platform)
    for start in range(0, count, BATCH):
        wanted = [
            new_job(app, name, None, None, task_id=None, options={"queue": queue})
            for _ in range(min(BATCH, count - start))
        ]
        with platform.database.begin() as connection:
            accepted = jobs.submit_all(connection, wanted, platform.limits, scope=whole_organization)
        publisher.publish([each.job for each in accepted if isinstance(each, Submitted)])
    publisher.close()


def main(kind: str, name: str, *wanted: str) -> None:
    """Fill the queues."""
    fill = fill_tracked if kind == "tracked" else fill_plain
    for queue, _, count in (each.partition("=") for each in wanted):
        fill(name, queue, int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
