"""Pages of a web address that a user named: checked and bounded as deliveries are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpcore2

from tasks.webhooks.asking import asking
from tasks.webhooks.delivery import wish_of

SECONDS = 30.0  # for all of a page: looking up, connecting, the answer
LARGEST_PAGE = 16 * 1024 * 1024  # bytes, its head included


@dataclass(frozen=True, slots=True)
class Page:
    """An answer, whatever its status: `wish` are the seconds that the source asks to wait; None: it does not.

    `is_cut`: it is longer than LARGEST_PAGE.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    wish: float | None
    is_cut: bool = False

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def fetch(url: str, accept: str, *, may_be_private: bool) -> Page:
    """GET a page, following no redirect. Raises Unreachable, or Forbidden for what leads into a private network.

    Neither quotes the path of the address: it may hold a secret.
    """
    with asking(
        *("GET", url, {"Accept": accept}),
        seconds=SECONDS,
        most=LARGEST_PAGE,
        may_be_private=may_be_private,
        ports=None,
        setting="CELERIAC_SYNC_PRIVATE",
    ) as (response, dialler):
        found: dict[str, str] = {}
        for name, value in response.headers:
            known, told = name.decode("latin-1").lower(), value.decode("latin-1")
            found[known] = f"{found[known]}, {told}" if known in found else told
        wish = wish_of(response.headers)
        pieces: list[bytes] = []
        try:
            pieces.extend(response.iter_stream())
        except httpcore2.ReadError:
            if dialler.left_bytes > 0:
                raise
            return Page(response.status, found, b"", wish, is_cut=True)
        return Page(response.status, found, b"".join(pieces), wish)
