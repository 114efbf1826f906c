"""Whose requests and connections an address counts."""

from __future__ import annotations

import pytest

from api.addresses import Addresses, Proxies
from api.problems import Code, Problem


def test_an_address_is_that_of_a_customer() -> None:
    """What an address asks is counted by itself, and of IPv6 by the network that its customer has; proxies never."""
    addresses = Addresses(1, Proxies(("10.0.0.0/8", "2001:db8:1::1")))
    with addresses.asking("2001:db8::1"), addresses.asking("203.0.113.7"):
        for same in ("2001:db8::2", "203.0.113.7", "::ffff:203.0.113.7"):
            with pytest.raises(Problem) as refused, addresses.asking(same):
                pass
            assert refused.value.code is Code.TOO_MANY_CONNECTIONS
        for other in ("2001:db8:0:1::1", "203.0.113.8"):
            with addresses.asking(other):
                pass
        for free in ("10.1.2.3", "2001:db8:1::1", None):
            with addresses.asking(free), addresses.asking(free):
                pass
    with addresses.asking("203.0.113.7"), Addresses(0, Proxies(())).asking("203.0.113.7"):
        pass
