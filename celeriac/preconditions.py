"""What must hold before a part may start. Each check raises an error that `tracking.exits` has one line for."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from api.secrets import signing_secret
from celeriac import packages
from tracking.db import Database, SQLAlchemyError
from tracking.errors import ConfigurationError
from tracking.exit_status import Exit
from tracking.exits import fault_of
from tracking.pooling import require_fitting
from tracking.settings import Settings
from tracking.versions import require_newest


def require_secret(settings: Settings, host: str) -> None:
    """Refuse to start an API that could not check tokens, or whose self-made secret would guard a public address."""
    if settings.jwks_url.get_secret_value():
        return
    if not settings.jwt_secret.get_secret_value() and not _is_loopback(host):
        raise ConfigurationError(f"CELERIAC_JWT_SECRET or CELERIAC_JWKS_URL is needed to listen on {host}")
    signing_secret(settings)


def require_servers(settings: Settings) -> None:
    """Refuse to start a part that knows no database or no broker."""
    settings.database, settings.broker  # noqa: B018  they raise


def require_imports(settings: Settings) -> None:
    """Refuse to start a part for which a module of CELERIAC_IMPORTS would be one of Celeriac's own packages."""
    for module in settings.imports:
        name = module.partition(".")[0]
        place = packages.hidden(name)
        if place is not None:
            raise ConfigurationError(
                f"CELERIAC_IMPORTS: {place} has the name of a package of Celeriac's, {name!r}: rename it"
            )


def require_database(settings: Settings) -> None:
    """Refuse to start on a database that turns us away, is behind an unknown pooler, or has an older schema than ours.

    One that is away may come back: nothing is raised then.
    """
    database = Database(settings.database, settings, pool_size=1)
    try:
        require_fitting(database, settings)
        with database.autocommit() as connection:
            require_newest(connection)
    except SQLAlchemyError as error:
        fault = fault_of(error)
        if fault is None or fault.status is Exit.MISUSED:
            raise
    finally:
        database.close()


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """The socket that the API serves: open before anything starts, and while the API starts again.

    Raises ConfigurationError when the address is taken or not ours.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server((str(address[0]), port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(f"port {port} of {host} is already in use: choose another --port") from None
        raise ConfigurationError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    with listener:
        yield listener


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
