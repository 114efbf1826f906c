"""A small typed client of the HTTP API: jobs, one by one and many at once, events, schedules, webhooks, workflows."""

from __future__ import annotations

from celeriac import packages

packages.claim(*packages.NEEDED)

from celeriac.client.awaiting import AsyncSender  # noqa: E402 - now that the packages below are ours
from celeriac.client.requests import AllRequests  # noqa: E402 - as above
from celeriac.client.sending import Sender  # noqa: E402 - as above
from celeriac.client.streaming import Event  # noqa: E402 - as above
from celeriac.client.transport import ApiError  # noqa: E402 - as above

__all__ = ["ApiError", "AsyncClient", "Client", "Event"]


class Client(Sender, AllRequests):
    """The API at `url`, called with `token`; may be shared by threads.

    Reads and creates are repeated for `patience` seconds while the server cannot be reached or says 503: a create
    always carries an idempotency key, so that its repetition is the same job. `timeout`: seconds to connect, and
    between two pieces of an answer. Everything raises ApiError.
    """


class AsyncClient(AsyncSender, AllRequests):
    """The same for an event loop: each method of Client is a coroutine, and each iterator an asynchronous one."""
