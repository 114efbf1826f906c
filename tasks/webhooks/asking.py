"""A request to a web address that a user named: checked, bounded in time and size, without a proxy or a redirect."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

import httpcore2
import httpx2

from tasks.authorities import Authorities
from tasks.webhooks.addresses import is_public
from tasks.webhooks.dialling import Dialler, OtherPort, PrivateAddress

AGENT = f"celeriac/{version('celeriac')}"


class Unreachable(ConnectionError):
    """The other side cannot be reached now; a later attempt may succeed."""


class Forbidden(Exception):
    """The address is none that may be asked."""


@contextmanager
def asking(
    method: str,
    url: str,
    own: Mapping[str, str],
    content: bytes | None = None,
    *,
    seconds: float,
    most: int,
    may_be_private: bool,
    ports: Collection[int] | None,
    setting: str,
) -> Iterator[tuple[httpcore2.Response, Dialler]]:
    """Send a request with headers of our own, and read the answer: all in so many `seconds`, and `most` bytes of it.

    Raises Unreachable, also while it is read, or Forbidden for what leads into a private network, which `setting` would
    allow, or to none of these `ports` (None: any may be). Neither quotes the path of the address: it may hold a secret.
    """
    address = httpx2.URL(url)
    if address.userinfo:
        raise Forbidden("an address with a password in it would be kept with the job; use one without")
    headers = {
        "Host": address.netloc.decode("ascii"),
        "User-Agent": AGENT,
        "Accept-Encoding": "identity",
        "Connection": "close",
        **own,
    }
    dialler = Dialler(seconds, most, lambda found: may_be_private or is_public(found), ports)
    target = httpcore2.URL(scheme=address.scheme, host=address.raw_host, port=address.port, target=address.raw_path)
    try:
        with (
            httpcore2.ConnectionPool(ssl_context=Authorities(), network_backend=dialler) as pool,
            pool.stream(method, target, headers=list(headers.items()), content=content) as response,
        ):
            yield response, dialler
    except PrivateAddress:
        raise Forbidden(f"{address.host} is in a private network ({setting}=true allows that)") from None
    except OtherPort:
        known = ", ".join(map(str, ports or ())) or "none"
        raise Forbidden(f"{address.host} is asked at another port than CELERIAC_WEBHOOKS_PORTS has: {known}") from None
    except UnicodeError as error:
        raise Forbidden(f"{address.host} is not a host name") from error
    except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as error:
        raise Unreachable(f"{address.host} cannot be reached: {type(error).__name__}") from error
