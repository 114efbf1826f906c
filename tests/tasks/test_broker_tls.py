"""TLS to database and broker: the server's certificate is trusted, and is that of the host, or nothing is said."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from kombu import Connection
from pydantic import SecretStr

from celeriac import alive
from tasks.broker.transport import register
from tests.project.test_project import ROOT
from tracking.settings import Settings
from tracking.urls import check_broker, check_database

NAME = "localhost"  # in the certificate, which is not that of 127.0.0.1
FIRST = 5.0  # seconds for the first bytes of a client


@dataclass
class Server:
    """One with a certificate that it has signed itself; `heard` are the first bytes of each whom it was trusted by."""

    listener: socket.socket
    certificate: Path
    heard: list[bytes] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self, context: ssl.SSLContext) -> None:
        """Take clients, one after the other, until the listener is closed."""
        with suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                client.settimeout(FIRST)
                with suppress(OSError), client:
                    self._hear(client, context)

    def _hear(self, client: socket.socket, context: ssl.SSLContext) -> None:
        if client.recv(1, socket.MSG_PEEK) == b"\x00":  # PostgreSQL's ask first whether to encrypt
            client.recv(8)
            client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as secured:
            if said := secured.recv(64):
                self.heard.append(said)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose certificate no authority of the system has signed."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    _sign(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener, certificate)
        thread = Thread(target=server.serve, args=(context,), daemon=True)
        thread.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(FIRST)


def _sign(certificate: Path, key: Path) -> None:
    private, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize("scheme", ["amqps", "rediss"])
@pytest.mark.parametrize(
    ("host", "options", "is_trusted"),
    [
        (NAME, "ssl_ca_certs={certificate}", True),
        (NAME, "ssl_ca_certs={certificate}&ssl_cert_reqs=required", True),
        (NAME, "", False),
        ("127.0.0.1", "ssl_ca_certs={certificate}", False),
        ("127.0.0.1", "ssl_ca_certs={certificate}&ssl_check_hostname=false", True),
        ("127.0.0.1", "ssl_cert_reqs=none&ssl_check_hostname=false", True),
    ],
)
def test_a_broker_is_told_nothing_unless_it_is_the_one(
    server: Server, scheme: str, host: str, options: str, is_trusted: object
) -> None:
    """A broker whose certificate is not trusted, or is another host's, hears nothing, unless the URL allows it."""
    register()
    path = "/0" if scheme == "rediss" else "//"
    url = f"{scheme}://u:p@{host}:{server.port}{path}?{options.format(certificate=server.certificate)}".rstrip("?")
    server.heard.clear()
    with Connection(check_broker(url), connect_timeout=FIRST) as connection:
        for _ in range(2):  # the second time as the first
            with pytest.raises(Exception) as ended:  # noqa: PT011 - each transport has errors of its own
                connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
    assert (len(server.heard) > 1) is bool(server.heard) is is_trusted, ended.value
    assert is_trusted or "certificate verify failed" in str(ended.value).lower()


@pytest.mark.parametrize("scheme", ["amqps", "rediss"])
@pytest.mark.parametrize(("host", "is_trusted"), [(NAME, True), ("127.0.0.1", False)])
def test_the_probe_of_a_worker_has_the_authorities_of_the_url(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    scheme: str,
    *,
    host: str,
    is_trusted: bool,
) -> None:
    """The probe trusts whom the worker trusts, and nobody else; it says so and shows no password."""
    path = "/0" if scheme == "rediss" else "//"
    url = f"{scheme}://u:pass-word@{host}:{server.port}{path}?ssl_ca_certs={server.certificate}"
    monkeypatch.setattr(alive, "settings", lambda: Settings(broker_url=SecretStr(check_broker(url))))
    monkeypatch.setattr(alive, "PATIENCE", 1.0)
    server.heard.clear()
    assert alive.main([]) == 1  # it is no broker
    assert bool(server.heard) is is_trusted
    said = capfd.readouterr().err
    assert ("certificate verify failed" in said.lower()) is not is_trusted
    assert "pass-word" not in said


@pytest.mark.parametrize(
    ("host", "options", "is_trusted"),
    [
        (NAME, "sslmode=verify-full&sslrootcert={certificate}", True),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert={certificate}", False),
        (NAME, "sslmode=verify-full&sslrootcert=system", False),
    ],
)
def test_a_database_is_told_nothing_unless_it_is_the_one(
    server: Server, host: str, options: str, is_trusted: object
) -> None:
    """With `verify-full` a database whose certificate is not trusted, or is another host's, hears nothing."""
    url = f"postgresql://u:p@{host}:{server.port}/name?{options.format(certificate=server.certificate)}"
    server.heard.clear()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(check_database(url).replace("+psycopg", ""), connect_timeout=int(FIRST))
    assert bool(server.heard) is is_trusted


def test_the_documented_urls_are_read() -> None:
    """Each URL that the page of operations has for TLS or for a fail-over is one that a process starts with."""
    page = (ROOT / "docs" / "operations.md").read_text()
    urls = [url.replace("…", "secret") for url in re.findall(r"`((?:postgresql|amqps|rediss|sentinel)://[^`]+)`", page)]
    urls = [url for url in urls if "secret" in url]
    assert {url.partition(":")[0] for url in urls} == {"postgresql", "amqps", "rediss", "sentinel"}
    for url in urls:
        assert (check_database if url.startswith("postgresql") else check_broker)(url)
    with pytest.raises(ValueError, match="is not supported"):
        check_broker("redis+cluster://h:6379")
