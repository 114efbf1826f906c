"""What the URLs of the settings may be. Each check raises ValueError with one line that holds no password."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

DATABASES = ("postgresql", "postgres", "postgresql+psycopg")
BROKERS = ("amqp", "amqps", "redis", "rediss", "redis+socket")
WEB = ("https", "http")
MAIL_PORTS = {"smtp": 587, "smtps": 465}  # of the submission of messages (RFC 6409, RFC 8314)
PORTS = range(1, 65536)
NUMBER_OR_NOTHING = re.compile("[0-9]*").fullmatch
ENCODE = "and must special characters of the password be percent-encoded?"


def check_database(url: str) -> str:
    """The SQLAlchemy URL of a PostgreSQL, with the one driver that is installed."""
    from sqlalchemy import make_url  # noqa: PLC0415 - a fifth of a second that `celeriac --help` need not take
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415 - as above

    scheme, rest = _scheme(url, DATABASES, "postgresql://user:password@host:5432/name")
    normal = f"postgresql+psycopg://{rest}"
    try:
        parsed = make_url(normal)
    except (ArgumentError, ValueError):
        raise ValueError(f"it cannot be read: is its port a number, {ENCODE}") from None
    _check_place(parsed.host or "", parsed.port)
    return normal if scheme in ("postgresql", "postgres") else url


def check_broker(url: str) -> str:
    """The URL of a RabbitMQ, Redis or Valkey, or several for a fail-over, with semicolons between them."""
    for one in url.split(";"):
        scheme, rest = _scheme(one, BROKERS, "amqp://user:password@host:5672//")
        if scheme == "redis+socket":
            continue
        try:
            parsed = urlsplit(f"http://{rest}")  # as kombu reads it
            port = parsed.port
        except ValueError:
            raise ValueError(f"it cannot be read: is its port a number from 1 to 65535, {ENCODE}") from None
        _check_place(parsed.hostname or "", port)
        database = parsed.path.strip("/")
        if scheme.startswith("redis") and not NUMBER_OR_NOTHING(database):
            raise ValueError("after the host of a redis:// URL comes the number of a database, such as /0")
    return url


def check_web(url: str) -> str:
    """The address of something on the web."""
    scheme, rest = _scheme(url, WEB, "https://host/path")
    _check_host(scheme, rest)
    if not url.isascii():
        raise ValueError("it contains a character that no URL of the web has: write its host's name in punycode")
    return url


def check_mail(url: str) -> str:
    """The address of a server that takes mail from us."""
    scheme, rest = _scheme(url, tuple(MAIL_PORTS), "smtp://user:password@host:587")
    parsed = _check_host(scheme, rest)
    if parsed.path.strip("/") or parsed.query or parsed.fragment:
        raise ValueError("after its host and port comes nothing")
    return url


def _check_host(scheme: str, rest: str) -> SplitResult:
    try:
        parsed = urlsplit(f"{scheme}://{rest}")
        port = parsed.port
    except ValueError:
        raise ValueError(f"it cannot be read: is its port a number from 1 to 65535, {ENCODE}") from None
    if not parsed.hostname:
        raise ValueError("it names no host")
    _check_place(parsed.hostname, port)
    return parsed


def _scheme(url: str, known: tuple[str, ...], form: str) -> tuple[str, str]:
    """The scheme and what follows it."""
    if any(sign.isspace() or not sign.isprintable() for sign in url):
        raise ValueError("it contains a space, a line break or another character that no URL has")
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme.isascii():
        raise ValueError(f"it is not like {form}")
    if scheme.lower() in known:
        return scheme.lower(), rest
    schemes = ", ".join(f"{name}://" for name in known)
    raise ValueError(f"{scheme[:40]}:// is not supported; supported: {schemes}")


def _check_place(host: str, port: int | None) -> None:
    if "@" in host:
        raise ValueError(f"its host contains an @: {ENCODE.removeprefix('and ')}")
    if port is not None and port not in PORTS:
        raise ValueError("its port is not a number from 1 to 65535")
