"""data_processing, notification, cleanup and sync, called as plain functions; and once in a real worker."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import BaseModel, ValidationError

from tasks import Job
from tasks.exports.files import DRAFTS, ExportNotFound, drafting, open_export
from tasks.exports.formats import FORMATS
from tasks.handlers.cleanup import CleanUp, cleanup
from tasks.handlers.data_processing import ProcessData, UnknownColumn, data_processing
from tasks.handlers.notification import SendNotification, notification
from tasks.handlers.sync import CopyDamaged, SyncExports, sync
from tasks.money import find_money, names_money
from tasks.progress import JobCancelled
from tasks.webhooks.addresses import is_public
from tasks.webhooks.delivery import DeliveryDelayed, DeliveryRefused, deliver
from tests.handling import add_job, workplace
from tests.live import Platform
from tracking import acting_as
from tracking.db import Database
from tracking.errors import ConfigurationError

DAY = 86_400


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Path]:
    """The directory of exports."""
    (tmp_path / "mirror").mkdir()
    with workplace(database_url, tmp_path, CELERIAC_SYNC_DIR=str(tmp_path / "mirror")) as exports:
        yield exports


def call(handler: Any, payload: BaseModel, organization: str = "acme") -> dict[str, Any]:
    """The result of a handler, called as a plain function."""
    with acting_as(organization, "u1"):
        return handler(payload)  # type: ignore[no-any-return]


def add_export(
    pool: Database,
    rows: Sequence[Sequence[Any]] = ((1, "Bonn"),),
    *,
    form: str = "csv",
    organization: str = "acme",
    outcome: str | None = "succeeded",
    days_old: float = 0,
) -> str:
    """The name of a file that a job of this organization has made."""
    return add_file(add_job(pool, organization, outcome=outcome), rows, form=form, days_old=days_old)


def add_file(job_id: UUID, rows: Sequence[Sequence[Any]], *, form: str = "csv", days_old: float = 0) -> str:
    """The name of a file of the first attempt of this job, with the columns id and city."""
    with drafting(job_id, 1, form) as draft:
        writer = FORMATS[form].writer(draft.file, ["id", "city"], draft.directory)
        writer.write([[FORMATS[form].cell(value) for value in row] for row in rows])
        writer.finish()
        writer.close()
        draft.finish()
        draft.publish()
    os.utime(draft.export.path, (time.time() - days_old * DAY,) * 2)
    return draft.export.name


def content(result: dict[str, Any]) -> str:
    """What is in the file that a result speaks of."""
    found = open_export(result["downloadUrl"].removeprefix("/v1/exports/"))
    assert found is not None
    return found[1].read_bytes().decode()


CITIES: list[list[Any]] = [[1, "Bonn"], [2, "Köln"], [1, "Bonn"], [3, ""], [4, None], [5, "=1+1"], [6, "Bonn"]]


@pytest.mark.parametrize("source", ["csv", "json"])
@pytest.mark.parametrize("form", ["csv", "json"])
def test_processing_counts_and_keeps_the_good_records(source: str, form: str, place: Path, database: Database) -> None:
    """Incomplete ones and repetitions are left out; the others are counted by city and written anew."""
    name = add_export(database, CITIES, form=source)
    payload = ProcessData.model_validate(
        {"export": name, "required": ["city"], "unique": ["id", "city"], "groupBy": "city", "format": form}
    )
    result = call(data_processing, payload)
    counts = {key: value for key, value in result.items() if key.endswith("Count")}
    assert counts == {"readCount": 7, "incompleteCount": 2, "duplicateCount": 1, "recordCount": 4, "groupCount": 3}
    assert result["groups"][0] == {"value": "Bonn", "count": 2}
    assert {group["value"] for group in result["groups"]} == {"Bonn", "Köln", "=1+1"}
    if form == "csv":
        assert content(result) == "id,city\r\n1,Bonn\r\n2,Köln\r\n5,'=1+1\r\n6,Bonn\r\n"
    else:
        assert [str(record["id"]) for record in json.loads(content(result))] == ["1", "2", "5", "6"]


def test_processing_an_export_without_records_makes_an_empty_one(place: Path, database: Database) -> None:
    """Its json cannot even say which columns it has."""
    job_id = add_job(database, "acme")
    with drafting(job_id, 1, "json") as draft:
        draft.file.write(b"[]\n")
        draft.publish()
    result = call(data_processing, ProcessData(export=draft.export.name, required=("x",), format="json"))
    assert (result["readCount"], result["recordCount"], content(result)) == (0, 0, "[]\n")


def test_processing_reads_texts_of_any_length_and_with_line_breaks(place: Path, database: Database) -> None:
    """The csv module alone stops at 128 KiB."""
    rows = [[1, "x" * 300_000], [2, 'a "b"\r\n, c']]
    name = add_export(database, rows)
    result = call(data_processing, ProcessData(export=name))
    assert content(result) == content({"downloadUrl": f"/v1/exports/{name}"})


def test_processing_an_unknown_column_is_refused_with_the_known_ones(place: Path, database: Database) -> None:
    """Before anything is written."""
    with pytest.raises(UnknownColumn, match="no column 'town'; it has id, city"):
        call(data_processing, ProcessData(export=add_export(database), unique=("town",)))
    assert len(list(place.glob("*.csv"))) == 1


@pytest.mark.parametrize("name", ["../secret.csv", "{name}\n", "nothing.csv"])
def test_processing_takes_nothing_but_exports(name: str, place: Path, database: Database) -> None:
    """A path is no name."""
    with pytest.raises((ExportNotFound, ValidationError)):
        call(data_processing, ProcessData(export=name.format(name=add_export(database))))


def test_processing_does_not_see_another_organizations_export(place: Path, database: Database) -> None:
    """Its name says nothing about whether it is there."""
    with pytest.raises(ExportNotFound, match="there is no export"):
        call(data_processing, ProcessData(export=add_export(database, organization="globex")))


def test_processing_can_be_cancelled_between_batches(
    place: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stays on the disk."""
    name = add_export(database, [[number, "Bonn"] for number in range(2000)])
    cancel_when_told(monkeypatch, "1,000 records read, 1,000 kept")
    with pytest.raises(JobCancelled):
        call(data_processing, ProcessData(export=name))
    assert [path.name for path in place.rglob("*") if path.is_file()] == [name]


def test_cleanup_removes_expired_invalid_and_orphaned_files_of_ones_own(place: Path, database: Database) -> None:
    """And nothing of another organization; the counts say which and how much."""
    kept = add_export(database, days_old=29)
    running = add_export(database, outcome=None, days_old=1)
    foreign = [add_export(database, organization="globex", days_old=days, outcome="failed") for days in (1, 400)]
    fresh_failure = add_export(database, outcome="failed")
    young_orphan = add_file(uuid4(), [[1, "x"]], days_old=1)
    gone = [
        add_export(database, days_old=31),
        add_export(database, outcome="failed", days_old=0.1),
        add_file(uuid4(), [[1, "x"]], days_old=31),
    ]
    size = sum((place / name).stat().st_size for name in gone)
    result = call(cleanup, CleanUp(older_than_days=30))
    removed = {"expiredExports": 1, "invalidExports": 1, "orphanedExports": 1, "drafts": 0, "freedBytes": size}
    assert result == {**removed, "keptExports": 3}
    left = {path.name for path in place.iterdir()} - {DRAFTS}
    assert left == {kept, running, *foreign, fresh_failure, young_orphan}


def test_cleanup_removes_drafts_that_nobody_has_written_to_for_a_day(place: Path) -> None:
    """A long export that still writes keeps its draft."""
    for name, age in (("old", DAY + 60), ("busy", DAY + 60), ("new", 0)):
        draft = place / DRAFTS / name
        draft.mkdir(parents=True)
        (draft / "file").touch()
        now = time.time()
        os.utime(draft / "file", (now - age * (name == "old"),) * 2)
        os.utime(draft, (now - age,) * 2)
    assert call(cleanup, CleanUp())["drafts"] == 1
    assert {path.name for path in (place / DRAFTS).iterdir()} == {"busy", "new"}


def test_cleanup_without_any_export_finds_nothing(place: Path) -> None:
    """There is not even a directory."""
    assert set(call(cleanup, CleanUp()).values()) == {0}


def test_sync_copies_all_valid_exports_of_the_organization(place: Path, database: Database, tmp_path: Path) -> None:
    """Byte for byte, into the organization's own directory, readable by us alone."""
    name = add_export(database)
    add_export(database, outcome="failed")
    add_export(database, organization="globex")
    result = call(sync, SyncExports())
    copy = tmp_path / "mirror" / "acme" / name
    digest = hashlib.sha256((place / name).read_bytes()).hexdigest()
    size = copy.stat().st_size
    assert result == {"copied": 1, "unchanged": 0, "copiedBytes": size, "files": [{"name": name, "sha256": digest}]}
    assert copy.read_bytes() == (place / name).read_bytes()
    assert [path.name for path in copy.parent.iterdir()] == [name]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_sync_again_changes_nothing(place: Path, database: Database, tmp_path: Path) -> None:
    """A retry after a lost worker copies only what is missing or damaged."""
    names = [add_export(database) for _ in range(3)]
    call(sync, SyncExports())
    (tmp_path / "mirror" / "acme" / names[0]).write_text("damaged")
    (tmp_path / "mirror" / "acme" / names[1]).unlink()
    result = call(sync, SyncExports())
    assert (result["copied"], result["unchanged"]) == (2, 1)
    assert call(sync, SyncExports(exports=(names[0],)))["unchanged"] == 1


@pytest.mark.parametrize("organization", ["../escape", "..", ".", "a/b", "/etc", "Ümläut & Co"])
def test_sync_stays_in_its_directory_whatever_the_organization_is_called(
    organization: str, place: Path, database: Database, tmp_path: Path
) -> None:
    """Its id is no path."""
    add_export(database, organization=organization)
    call(sync, SyncExports(), organization)
    (directory,) = (tmp_path / "mirror").iterdir()
    assert len(list(directory.iterdir())) == 1
    assert not (tmp_path / "escape").exists()


def test_sync_does_not_copy_another_organizations_export(place: Path, database: Database) -> None:
    """Even when its name is known."""
    with pytest.raises(ExportNotFound):
        call(sync, SyncExports(exports=(add_export(database, organization="globex"),)))


def test_sync_without_a_destination_says_what_to_set(
    place: Path, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other attempt is made for it."""
    monkeypatch.delenv("CELERIAC_SYNC_DIR")
    with workplace(database_url, tmp_path), pytest.raises(ConfigurationError, match="CELERIAC_SYNC_DIR is not set"):
        call(sync, SyncExports())


def test_sync_to_a_missing_mount_is_worth_another_attempt(place: Path, database: Database, tmp_path: Path) -> None:
    """The directory is not made: it would lie on the disk below the mount."""
    (tmp_path / "mirror").rmdir()
    with pytest.raises(OSError, match="is not there"):
        call(sync, SyncExports())
    assert not (tmp_path / "mirror").exists()


def test_sync_notices_a_damaged_copy(
    place: Path, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read back is compared before the file gets its name."""
    add_export(database)
    monkeypatch.setattr("tasks.handlers.sync.shutil.copyfileobj", add_noise)
    with pytest.raises(CopyDamaged):
        call(sync, SyncExports())
    assert list((tmp_path / "mirror" / "acme").iterdir()) == []


def add_noise(_reader: Any, writer: Any, _size: int) -> None:
    """A copy that goes wrong."""
    writer.write(b"noise")


class Receiver(ThreadingHTTPServer):
    """A web server that answers `status` and remembers what it was sent."""

    status = 204
    retry_after = ""
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        super().__init__(("127.0.0.1", 0), Answer)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what some tests are about."""


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Receiver

    def do_POST(self) -> None:
        """Remember it, answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(
            (self.path, {key.lower(): value for key, value in self.headers.items()}, json.loads(body))
        )
        self.send_response(self.server.status)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        if self.server.retry_after:
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def receiving(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver, for as long as the block runs."""
    with Receiver(context) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.02,))
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join(5)


@pytest.fixture
def receiver(database_url: str, tmp_path: Path) -> Iterator[Receiver]:
    """A receiver on this machine, and the setting that allows it."""
    with workplace(database_url, tmp_path, CELERIAC_WEBHOOKS_PRIVATE="true"), receiving() as server:
        yield server


def note(url: str | None = None, **more: Any) -> SendNotification:
    """A notification."""
    channel = "webhook" if url else "log"
    return SendNotification.model_validate({"channel": channel, "url": url, "subject": "Done", **more})


def test_a_webhook_gets_the_message_and_the_jobs_id_as_key(receiver: Receiver) -> None:
    """The key is the same at every attempt, so that the receiver can take the message once."""
    url = f"http://127.0.0.1:{receiver.port}/hook?token=secret"
    result = call(notification, note(url, message="Ready", data={"exportId": "e1"}))
    assert result == {"channel": "webhook", "receiver": "127.0.0.1", "status": 204}
    ((path, headers, body),) = receiver.requests
    assert path == "/hook?token=secret"
    assert headers["idempotency-key"] == body.pop("jobId")
    assert body == {"organizationId": "acme", "subject": "Done", "message": "Ready", "data": {"exportId": "e1"}}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
def test_a_receiver_that_cannot_take_it_now_is_asked_again(status: int, receiver: Receiver) -> None:
    """The handler is retried on ConnectionError; the error tells no more than the host."""
    receiver.status = status
    with pytest.raises(DeliveryDelayed) as delayed:
        call(notification, note(f"http://127.0.0.1:{receiver.port}/secret"))
    assert isinstance(delayed.value, ConnectionError)
    assert str(delayed.value) == f"127.0.0.1 answered {status}"


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 401, 404, 410])
def test_a_refusal_is_final_and_no_redirect_is_followed(status: int, receiver: Receiver) -> None:
    """A redirect could lead into the private network."""
    receiver.status = status
    with pytest.raises(DeliveryRefused, match=f"answered {status}"):
        call(notification, note(f"http://127.0.0.1:{receiver.port}/"))
    assert len(receiver.requests) == 1


def test_a_receiver_that_is_away_is_asked_again(receiver: Receiver) -> None:
    """Nobody listens there."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(DeliveryDelayed, match="cannot be reached: ConnectError"):
            deliver(f"http://127.0.0.1:{unused.getsockname()[1]}/", {}, idempotency_key="1")


def test_a_receiver_that_never_answers_is_given_up(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wait has an end."""
    monkeypatch.setattr("tasks.webhooks.delivery.SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DeliveryDelayed, match="ReadTimeout"):
        deliver(f"http://127.0.0.1:{silent.getsockname()[1]}/", {}, idempotency_key="1")


def test_a_receiver_that_drips_is_given_up_at_the_deadline(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and all of them never do."""
    monkeypatch.setattr("tasks.webhooks.delivery.SECONDS", 0.5)

    def drip() -> None:
        connection, _ = dripping.accept()
        with connection, suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 1000:
                connection.sendall(bytes([byte]))
                stopped.wait(0.1)

    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as dripping:
        thread = threading.Thread(target=drip)
        thread.start()
        begun = time.monotonic()
        with pytest.raises(DeliveryDelayed, match="ReadTimeout"):
            deliver(f"http://127.0.0.1:{dripping.getsockname()[1]}/", {}, idempotency_key="1")
        assert time.monotonic() - begun < 2
        stopped.set()
        thread.join(5)


def test_an_endless_answer_is_not_read(receiver: Receiver) -> None:
    """64 KiB of it are enough; what its headers do not hold is no answer."""

    def pour() -> None:
        connection, _ = pouring.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                connection.sendall(b"X: x\r\n" * 1000)

    with socket.create_server(("127.0.0.1", 0)) as pouring:
        thread = threading.Thread(target=pour)
        thread.start()
        with pytest.raises(DeliveryDelayed):
            deliver(f"http://127.0.0.1:{pouring.getsockname()[1]}/", {}, idempotency_key="1")
        thread.join(5)


def test_a_slow_name_server_is_given_up_at_the_deadline(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up has no time-out of its own."""
    monkeypatch.setattr("tasks.webhooks.delivery.SECONDS", 0.2)
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(10) and [])
    with pytest.raises(DeliveryDelayed, match=r"(Connect|Read)Timeout"):  # a busy machine may notice it a moment later
        deliver("http://hook.test/", {}, idempotency_key="1")
    answered.set()


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("7", 7), ("999999999999999999999", 3600), ("Wed, 01 Jan 2020 00:00:00 GMT", 0),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
     ("-1", None), ("soon", None), ("\u0661", None), ("", None)],
)  # fmt: skip
def test_the_receiver_may_say_when_to_come_again(written: str, seconds: float | None, receiver: Receiver) -> None:
    """In seconds or as a date, at most an hour."""
    receiver.status, receiver.retry_after = 429, written.encode("utf-8").decode("latin-1")
    with pytest.raises(DeliveryDelayed) as delayed:
        call(notification, note(f"http://127.0.0.1:{receiver.port}/"))
    assert delayed.value.retry_after == seconds


PRIVATE = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0", "0.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1",
    "100.64.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "192.0.2.1", "[::]", "[::1]", "[fe80::1]",
    "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[ff02::1]",
    "localhost",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_a_webhook_never_reaches_the_private_network(host: str, place: Path) -> None:
    """Whatever the spelling of the address; nothing is even connected to."""
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
    """Those of IANA's registries, multicast, and those with an IPv4 address inside. Nothing is sent to them."""
    assert not is_public(address)


def test_one_private_address_among_public_ones_refuses_the_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers for the name could lead us there the next time."""
    look_up = socket.getaddrinfo
    both = [*look_up("93.184.216.34", 80), *look_up("127.0.0.1", 80)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(DeliveryRefused, match="is in a private network"):
        deliver("http://hook.test/", {}, idempotency_key="1")


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111"])
def test_public_addresses_are_public(address: str) -> None:
    """The check refuses nothing else."""
    assert is_public(address)


def test_a_name_is_looked_up_once_and_the_checked_address_is_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers differently the second time gets nothing from it."""
    asked: list[str] = []
    look_up = socket.getaddrinfo

    def once(host: str, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        return look_up("127.0.0.1" if host == "hook.test" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    call(notification, note(f"http://hook.test:{receiver.port}/"))
    assert asked == ["hook.test", "127.0.0.1"]
    assert receiver.requests[0][1]["host"] == f"hook.test:{receiver.port}"


@pytest.mark.parametrize(("name", "accepted"), [("hook.test", True), ("other.test", False)])
def test_a_certificate_is_checked_against_the_name(
    name: str, accepted: bool, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: FBT001
) -> None:  # fmt: skip
    """Though the connection goes to the address."""
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *more, **options: look_up("127.0.0.1", *more, **options))
    monkeypatch.setenv("SSL_CERT_FILE", str(make_certificate(tmp_path, "hook.test")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem")
    with receiving(context) as secure:
        if accepted:
            assert deliver(f"https://{name}:{secure.port}/", {}, idempotency_key="1") == 204
        else:
            with pytest.raises(DeliveryDelayed, match="ConnectError"):
                deliver(f"https://{name}:{secure.port}/", {}, idempotency_key="1")


def test_an_address_with_a_password_is_refused(receiver: Receiver) -> None:
    """It would be kept with the job, for everyone who may see it."""
    with pytest.raises(DeliveryRefused, match="password"):
        call(notification, note(f"http://user:secret@127.0.0.1:{receiver.port}/"))


def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look the name up by itself, past the check."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert call(notification, note(f"http://127.0.0.1:{receiver.port}/"))["status"] == 204


def test_the_log_gets_one_line_that_only_we_can_read(place: Path) -> None:
    """A file of its own: no words of an organization in the log of the platform."""
    assert call(notification, note(message="Grüße", data={"a": [1]})) == {
        "channel": "log", "receiver": "notifications.jsonl", "status": None,
    }  # fmt: skip
    call(notification, note(), "globex")
    path = place.parent / "notifications.jsonl"
    first, second = map(json.loads, path.read_text().splitlines())
    assert {key: first[key] for key in ("organizationId", "subject", "message", "data")} == {
        "organizationId": "acme", "subject": "Done", "message": "Grüße", "data": {"a": [1]},
    }  # fmt: skip
    assert second["organizationId"] == "globex"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "payload",
    [
        {"channel": "webhook", "subject": "x"},
        {"channel": "log", "subject": "x", "url": "https://example.org/"},
        {"channel": "mail", "subject": "x"},
        {"channel": "log", "subject": ""},
        {"channel": "webhook", "subject": "x", "url": "ftp://example.org/"},
        {"channel": "webhook", "subject": "x", "url": "file:///etc/passwd"},
        {"channel": "log", "subject": "x", "data": {"order": {"totalPrice": 5}}},
        {"channel": "log", "subject": "x", "data": {"items": [{"currency": "x"}]}},
        {"channel": "log", "subject": "x", "message": "You owe us 100 €"},
    ],
)
def test_a_wrong_notification_is_refused(payload: dict[str, Any]) -> None:
    """No address, another scheme, or money in it."""
    with pytest.raises(ValidationError):
        SendNotification.model_validate(payload)


@pytest.mark.parametrize(
    "key", ["amount", "totalPrice", "total_price", "PRICE", "unit-price", "amountInCents", "VATRate", "price.value"]
)
def test_keys_that_name_money_are_known(key: str) -> None:
    """In any spelling."""
    assert names_money(key)


@pytest.mark.parametrize("key", ["priceId", "cost_ids", "pricey", "reportType", "accosted", "id", ""])
def test_ids_and_other_words_are_no_money(key: str) -> None:
    """A payload may say whose price is meant, only not which it is."""
    assert not names_money(key)


def test_the_place_of_a_monetary_value_is_told() -> None:
    """So that it can be found in a large payload."""
    assert find_money({"data": {"items": [{"id": 1}, {"unitPrice": 5}]}}) == "data.items.1.unitPrice"
    assert find_money({"note": "costs $5"}) == "note"
    assert find_money(json.loads("[" * 900 + '{"price": 1}' + "]" * 900)) is None  # too deep for any payload
    assert find_money({"note": "5 days, USDA approved, A$AP"}) is None


def test_the_handlers_run_in_a_worker(platform: Platform, tmp_path: Path) -> None:
    """An export, its processing, the copy of both, a note and a clean-up, on their queues."""
    (tmp_path / "mirror").mkdir()
    platform.environment["CELERIAC_SYNC_DIR"] = str(tmp_path / "mirror")
    platform.start_worker()
    owner = {"organization": "acme", "user": "u1"}

    def run(name: str, payload: dict[str, Any], queue: str = "default") -> dict[str, Any]:
        job = platform.wait_for(platform.submit(name, payload=payload, **owner))
        assert (job.status, job.error_message, job.queue) == ("succeeded", None, queue)
        return dict(job.result)

    exported = run("export_report", {"reportType": "jobs"})
    name = exported["downloadUrl"].removeprefix("/v1/exports/")
    processed = run("data_processing", {"export": name, "unique": ["jobType"], "groupBy": "status"})
    assert (processed["readCount"], processed["groups"]) == (1, [{"value": "running", "count": 1}])
    assert run("sync", {}, "maintenance")["copied"] == 2
    assert run("notification", {"channel": "log", "subject": "Done"})["receiver"] == "notifications.jsonl"
    assert run("cleanup", {}, "maintenance")["keptExports"] == 2


def cancel_when_told(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    """The job is cancelled when its body says this."""

    def report(_: Job, **news: Any) -> None:
        if news.get("message") == message:
            raise JobCancelled

    monkeypatch.setattr(Job, "_report", report)


def make_certificate(directory: Path, name: str) -> Path:
    """A certificate for this name, signed by itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "certificate.pem"
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return path
