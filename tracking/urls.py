"""What the URLs of the settings may be. Each check raises ValueError with one line that holds no password."""

from __future__ import annotations

import re
from ipaddress import ip_network
from urllib.parse import SplitResult, urlsplit

from tracking import sentinels

DATABASES = ("postgresql", "postgres", "postgresql+psycopg")
BROKERS = ("amqp", "amqps", "redis", "rediss", "redis+socket", sentinels.SCHEME)
WEB = ("https", "http")
MAIL_PORTS = {"smtp": 587, "smtps": 465}  # of the submission of messages (RFC 6409, RFC 8314)
PORTS = range(1, 65536)
NUMBER_OR_NOTHING = re.compile("[0-9]*").fullmatch
ANY_ADDRESS = "*"  # among proxies: whoever connects is one
VERIFIED = "ssl_cert_reqs"  # none, optional, required
ENCODE = "and must special characters of the password be percent-encoded?"


def check_database(url: str) -> str:
    """The SQLAlchemy URL of a PostgreSQL, with the one driver that is installed.

    It may name several servers, host:port with commas between, as libpq has them; SQLAlchemy has them as parameters.
    """
    from sqlalchemy import make_url  # noqa: PLC0415 - a fifth of a second that `celeriac --help` need not take
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415 - as above

    scheme, rest = _scheme(url, DATABASES, "postgresql://user:password@host:5432/name")
    rest, several = _apart(rest)
    normal = f"postgresql+psycopg://{rest}"
    try:
        parsed = make_url(normal)
    except (ArgumentError, ValueError):
        raise ValueError(f"it cannot be read: is its port a number, {ENCODE}") from None
    _check_place(parsed.host or "", parsed.port)
    return normal if several or scheme in ("postgresql", "postgres") else url


def _apart(rest: str) -> tuple[str, bool]:
    """What follows the scheme, with its servers as parameters if they are several; and whether they are."""
    place, separator, path = re.fullmatch(r"([^/?]*)([/?]?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]  # all of it
    account, at, hosts = place.rpartition("@")
    if "," not in hosts:
        return rest, False
    for host in hosts.split(","):
        name, _, port = host.rpartition(":") if ":" in host else (host, "", "")
        if not name or "[" in host or not NUMBER_OR_NOTHING(port) or (port and int(port) not in PORTS):
            raise ValueError(f"of several servers each is a name and a port, with a colon between, {ENCODE}")
    path = path if separator != "?" else f"?{path}"
    name, mark, query = path.partition("?")
    servers = "&".join(f"host={host if ':' in host else f'{host}:5432'}" for host in hosts.split(","))
    return f"{account}{at}/{name}?{servers}{f'&{query}' if mark and query else ''}", True


def check_broker(url: str) -> str:
    """The URL of a RabbitMQ, Redis, Valkey or sentinel, or several for a fail-over, with semicolons between them.

    One of rediss:// that does not say so trusts no certificate but those of known authorities: kombu takes any then.
    """
    checked = ";".join(map(_check_one_broker, url.split(";")))
    return sentinels.check(checked) if f"{sentinels.SCHEME}:" in checked.lower() else checked


def _check_one_broker(url: str) -> str:
    scheme, rest = _scheme(url, BROKERS, "amqp://user:password@host:5672//")
    if scheme == "redis+socket":
        return url
    try:
        parsed = urlsplit(f"http://{rest}")  # as kombu reads it
        port = parsed.port
    except ValueError:
        raise ValueError(f"it cannot be read: is its port a number from 1 to 65535, {ENCODE}") from None
    _check_place(parsed.hostname or "", port)
    database = parsed.path.strip("/")
    if scheme.startswith(("redis", sentinels.SCHEME)) and not NUMBER_OR_NOTHING(database):
        raise ValueError(f"after the host of a {scheme}:// URL comes the number of a database, such as /0")
    if scheme == "rediss" and VERIFIED not in parsed.query:
        return f"{url}{'&' if parsed.query else '?'}{VERIFIED}=required"
    return url


def check_web(url: str) -> str:
    """The address of something on the web."""
    scheme, rest = _scheme(url, WEB, "https://host/path")
    _check_host(scheme, rest)
    if not url.isascii():
        raise ValueError("it contains a character that no URL of the web has: write its host's name in punycode")
    return url


def check_origin(url: str) -> str:
    """A site as a browser names it in `Origin`: no path, lower case, no port that its scheme has anyway."""
    check_web(url)
    parsed = urlsplit(url)
    is_usual = parsed.port == {"http": 80, "https": 443}[parsed.scheme]
    if url != f"{parsed.scheme}://{parsed.netloc}".lower() or "@" in parsed.netloc or is_usual:
        raise ValueError("a site is written as a browser does, https://app.example.org or http://localhost:5173")
    return url


def check_network(text: str) -> str:
    """An address, or a network of them; `*` is any."""
    if text != ANY_ADDRESS:
        try:
            ip_network(text)
        except ValueError:
            raise ValueError("it is no address or network such as 10.0.0.7 or 10.0.0.0/8") from None
    return text


def check_bucket(url: str) -> str:
    """A bucket of an S3-compatible storage, and what its keys begin with."""
    _, rest = _scheme(url, ("s3",), "s3://bucket/prefix")
    bucket, _, prefix = rest.partition("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise ValueError("its bucket is no name of one: 3 to 63 letters, digits, points and hyphens")
    if not re.fullmatch(r"[\w./-]*", prefix, re.ASCII) or ".." in prefix or "//" in prefix:
        raise ValueError("after the bucket comes a path of letters, digits, points, hyphens and underscores")
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
