"""What uvicorn serves: the API with the platform's logs."""

from __future__ import annotations

import signal
import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from celeriac import garbage, packages

packages.claim("api")  # uvicorn's further processes begin here

from api.addresses import LOOPBACK  # noqa: E402 - now that `api` is ours
from api.app import create_app  # noqa: E402 - as above
from api.connections import Connection, Socket  # noqa: E402 - as above
from api.live.sse import HEARTBEAT  # noqa: E402 - as above
from tracking import traces  # noqa: E402 - as above
from tracking.exits import StartError  # noqa: E402 - as above
from tracking.logs import configure_logging  # noqa: E402 - as above
from tracking.prints import log_prints  # noqa: E402 - as above
from tracking.settings import settings  # noqa: E402 - as above

LONGEST_MESSAGE = 4096  # bytes that a client may send over a WebSocket, on which it has nothing to say
GRACE = 5  # seconds that open requests have at the end; a live stream would hold the process for ever


def serve(listener: socket.socket, processes: int) -> None:
    """Serve the API on a listening socket until SIGINT or SIGTERM. Raises StartError when it cannot begin."""
    configuration = uvicorn.Config(
        "celeriac.web:application",
        factory=True,
        http=Connection,
        ws=Socket,
        ws_ping_interval=HEARTBEAT,
        ws_max_size=LONGEST_MESSAGE,
        ws_max_queue=1,
        workers=processes,
        forwarded_allow_ips=list(settings().trusted_proxies or LOOPBACK),
        log_config=None,
        access_log=False,  # the API logs its requests itself, without what a URL may hold
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    if processes > 1:
        create_app()  # what is wrong stops the start here, and not each process again and again
        Multiprocess(configuration, sockets=[listener]).run()
        return
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn passes it on after it has shut down, which is no failure
    server = uvicorn.Server(configuration)
    with suppress(KeyboardInterrupt):  # uvicorn passes Ctrl-C on after it has shut down
        server.run([listener])
    if not server.started:
        raise StartError("the API did not start")


def application() -> FastAPI:
    """The API; logs are set up here because each of uvicorn's processes begins here."""
    configure_logging(settings())
    if settings().log_format == "json":
        log_prints()
    traces.begin(settings(), "celeriac-api")
    app = create_app()
    garbage.look_from_now_on()
    return app
