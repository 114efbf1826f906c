"""Which IP addresses are of the public internet: written out as networks, since properties of a library change.

IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates) with all that they list, multicast, and
addresses with an IPv4 address inside, which a translator in the network may lead anywhere.
"""

from __future__ import annotations

import ipaddress


def is_public(address: str) -> bool:
    """Whether an IP address, with or without a zone, is one of the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip  # ::ffff:a.b.c.d is dialled as a.b.c.d
    return not any(ip in network for network in _DENIED[ip.version])


_DENIED = {
    4: tuple(
        map(
            ipaddress.ip_network,
            (
                "0.0.0.0/8",  # this network
                "10.0.0.0/8",  # private
                "100.64.0.0/10",  # shared by the customers of a provider
                "127.0.0.0/8",  # loopback
                "169.254.0.0/16",  # link-local, and the metadata of clouds
                "172.16.0.0/12",  # private
                "192.0.0.0/24",  # protocol assignments
                "192.0.2.0/24",  # documentation
                "192.31.196.0/24",  # AS112
                "192.52.193.0/24",  # multicast relays
                "192.88.99.0/24",  # 6to4 relays
                "192.168.0.0/16",  # private
                "192.175.48.0/24",  # AS112
                "198.18.0.0/15",  # benchmarks
                "198.51.100.0/24",  # documentation
                "203.0.113.0/24",  # documentation
                "224.0.0.0/4",  # multicast
                "240.0.0.0/4",  # reserved, and broadcast
            ),
        )
    ),
    6: tuple(
        map(
            ipaddress.ip_network,
            (
                "::/96",  # unspecified, loopback, IPv4-compatible
                "::ffff:0:0:0/96",  # IPv4-translated
                "64:ff9b::/96",  # NAT64
                "64:ff9b:1::/48",  # NAT64 of a local network
                "100::/63",  # discard, dummy
                "::/3",  # what else is not allocated
                "2001::/23",  # protocol assignments, Teredo
                "2001:db8::/32",  # documentation
                "2002::/16",  # 6to4
                "2620:4f:8000::/48",  # AS112
                "3fff::/20",  # documentation
                "4000::/2",  # not allocated, segment routing
                "8000::/2",  # not allocated
                "c000::/3",  # not allocated
                "e000::/4",  # not allocated
                "f000::/5",  # not allocated
                "f800::/6",  # not allocated
                "fc00::/7",  # unique local
                "fe00::/9",  # not allocated
                "fe80::/10",  # link-local
                "fec0::/10",  # site-local, as it was once
                "ff00::/8",  # multicast
            ),
        )
    ),
}
