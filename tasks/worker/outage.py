"""While the broker is away the worker's event loop goes on: Celery would sleep until it is back.

Bodies end meanwhile. Their ends are read by the event loop, so that each of these jobs would run in its row for as long
as the broker is away, and would be lost with a worker that is stopped in that time.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

from celery.worker import state


def go_on_until(come_back: Callable[[], None], worker: Any) -> None:
    """Run the event loop of a worker until `come_back` returns, which is called in a thread. Raises what that raises.

    Of the event loop only what belongs to the pool is run: everything else is of the connection that is gone.
    """
    hub = worker.hub
    ended: list[BaseException | None] = []

    def wait() -> None:
        try:
            come_back()
        except BaseException as error:  # noqa: BLE001 - also the end of the worker; it is raised below
            ended.append(error)
        else:
            ended.append(None)
        hub.call_soon(lambda: None)  # or the loop would notice it a second later

    pool = getattr(worker.pool, "_pool", None)
    ticks, hub.on_tick = hub.on_tick, {tick for tick in hub.on_tick if getattr(tick, "__self__", None) is pool}
    before = timers(hub)
    worker.pool.register_with_event_loop(hub)
    of_the_pool = timers(hub) - before
    try:
        Thread(target=wait, name="waiting-for-the-broker", daemon=True).start()
        loop = hub.create_loop()
        while not ended:
            state.maybe_shutdown()
            try:
                next(loop)
            except StopIteration:
                loop = hub.create_loop()
    finally:
        hub.on_tick = ticks | hub.on_tick
        for entry in of_the_pool:  # they come again with the connection
            hub.timer.cancel(entry)
    if ended[0] is not None:
        raise ended[0]


def timers(hub: Any) -> set[Any]:
    """What is to be called later."""
    return {scheduled.entry for scheduled in hub.timer.queue}
