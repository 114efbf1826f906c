"""Where a webhook may go: to the address that was checked, and never into a private network."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from tasks.handlers.notification import notification
from tasks.webhooks.addresses import is_public
from tasks.webhooks.delivery import DeliveryDelayed, DeliveryRefused, Reach, deliver
from tests.handling import call
from tests.receiving import ANYWHERE, Receiver, make_certificate, note, receiving

PRIVATE = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0", "0.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1",
    "100.64.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "192.0.2.1", "[::]", "[::1]", "[fe80::1]",
    "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[ff02::1]",
    "localhost",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_a_webhook_never_reaches_the_private_network(host: str, place: Path) -> None:
    """A webhook to a private address is refused, however it is spelled, without a connection."""
    with receiving() as receiver:
        with pytest.raises(DeliveryRefused, match="is in a private network"):
            call(notification, note(f"http://{host}:{receiver.port}/"))
        assert receiver.requests == []


@pytest.mark.parametrize(
    "address",
    ["192.0.0.8", "192.0.0.9", "192.88.99.1", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "100.100.100.200",
     "::1", "::7f00:1", "::8.8.8.8", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::7f00:1",
     "100::1", "2001::1", "2001:0:4136:e378::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1", "5f00::1", "fc00::1",
     "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "1000::1", "4000::1"],
)  # fmt: skip
def test_special_addresses_are_not_public(address: str) -> None:
    """Addresses of IANA's special registries, multicast, and those with an IPv4 address inside are not public."""
    assert not is_public(address)


def test_one_private_address_among_public_ones_refuses_the_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with one private address among public ones is refused."""
    look_up = socket.getaddrinfo
    both = [*look_up("93.184.216.34", 80), *look_up("127.0.0.1", 80)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(DeliveryRefused, match="is in a private network"):
        deliver("http://hook.test/", {}, idempotency_key="1", reach=Reach(may_be_private=False, ports=(443,)))


@pytest.mark.parametrize(("url", "ports"), [("http://hook.test/", (443,)), ("https://hook.test:22/", (443, 80))])
def test_no_other_port_is_connected_to(url: str, ports: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A public address is refused at a port that the operator has not named, before there is a connection."""
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: look_up("93.184.216.34", 80))
    with pytest.raises(DeliveryRefused, match=f"CELERIAC_WEBHOOKS_PORTS has: {ports[0]}"):
        deliver(url, {}, idempotency_key="1", reach=Reach(may_be_private=False, ports=ports))


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111"])
def test_public_addresses_are_public(address: str) -> None:
    """Ordinary public addresses pass the check."""
    assert is_public(address)


def test_a_name_is_looked_up_once_and_the_checked_address_is_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver's name is looked up once, and the checked address is dialled."""
    asked: list[str] = []
    look_up = socket.getaddrinfo

    def once(host: str, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        return look_up("127.0.0.1" if host == "hook.test" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    call(notification, note(f"http://hook.test:{receiver.port}/"))
    assert asked == ["hook.test", "127.0.0.1"]
    assert receiver.requests[0][1]["host"] == f"hook.test:{receiver.port}"


def test_a_name_that_is_bound_anew_leads_nowhere_private(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that turns to this machine while it is asked, or for the next delivery, does not lead here."""
    look_up, dial = socket.getaddrinfo, socket.create_connection
    asked, dialled = list[str](), list[str]()

    def rebound(host: str, *arguments: Any, **options: Any) -> Any:
        if host != "hook.test":
            return look_up(host, *arguments, **options)
        asked.append(host)
        return look_up("93.184.216.34" if len(asked) == 1 else "127.0.0.1", *arguments, **options)

    def refused_elsewhere(address: tuple[str, int], *arguments: Any, **options: Any) -> Any:
        dialled.append(address[0])
        if address[0] != "127.0.0.1":
            raise ConnectionRefusedError
        return dial(address, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    monkeypatch.setattr(socket, "create_connection", refused_elsewhere)
    with receiving() as canary:
        reach = Reach(may_be_private=False, ports=(canary.port,))
        with pytest.raises(DeliveryDelayed, match=r"hook\.test cannot be reached"):
            deliver(f"http://hook.test:{canary.port}/", {}, idempotency_key="1", reach=reach)
        with pytest.raises(DeliveryRefused, match="is in a private network"):
            deliver(f"http://hook.test:{canary.port}/", {}, idempotency_key="1", reach=reach)
        assert canary.requests == []
    assert (asked, dialled) == (["hook.test"] * 2, ["93.184.216.34"])


@pytest.mark.parametrize(("name", "accepted"), [("hook.test", True), ("other.test", False)])
def test_a_certificate_is_checked_against_the_name(
    name: str, accepted: bool, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: FBT001
) -> None:  # fmt: skip
    """A certificate is checked against the receiver's name, though an address is dialled."""
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *more, **options: look_up("127.0.0.1", *more, **options))
    monkeypatch.setenv("SSL_CERT_FILE", str(make_certificate(tmp_path, "hook.test")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem")
    with receiving(context) as secure:
        if accepted:
            assert deliver(f"https://{name}:{secure.port}/", {}, idempotency_key="1", reach=ANYWHERE) == 204
        else:
            with pytest.raises(DeliveryDelayed, match="ConnectError"):
                deliver(f"https://{name}:{secure.port}/", {}, idempotency_key="1", reach=ANYWHERE)


def test_an_address_with_a_password_is_refused(receiver: Receiver) -> None:
    """A webhook address with a password is refused."""
    with pytest.raises(DeliveryRefused, match="password"):
        call(notification, note(f"http://user:secret@127.0.0.1:{receiver.port}/"))


def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Webhooks do not use a proxy of the environment."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert call(notification, note(f"http://127.0.0.1:{receiver.port}/"))["status"] == 204
