"""Which failures count in which circuit: what handlers say of it, and what a worker does."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from tasks import Job, app
from tasks.attempt.exceptions import PayloadError
from tasks.exports.cells import CellTooLong
from tasks.exports.files import ExportNotFound
from tasks.exports.records import DamagedExport
from tasks.exports.reporting import ReportFailed
from tasks.exports.writing import FileTooLarge
from tasks.handlers.data_processing import UnknownColumn
from tasks.webhooks.delivery import DeliveryDelayed, DeliveryRefused
from tests.live import LivePlatform, eventually
from tests.receiving import receiving
from tracking.admission import circuits

Call = tuple[str, list[Any], dict[str, Any], dict[str, Any]]


def raised(call: Any, *args: Any) -> BaseException:
    """What a call raises, as it is caught."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - of any class
        call(*args)
    return caught.value


class Payload(BaseModel):
    """Of a handler of this module."""

    number: int


@app.task(bind=True, pydantic=True, name="test_circuits.typed", throws=(KeyError,))
def typed(self: Job, payload: Payload) -> None:
    """Raise a validation error of its own, as of the answer of a service."""
    TypeAdapter(int).validate_python("no number")


@app.task(name="test_circuits.plain")
def plain(number: int) -> int:
    """Raise a TypeError of its own."""
    return number + "1"  # type: ignore[operator]  # on purpose


@app.task(name="test_circuits.named", circuit_key=lambda payload: payload["key"])
def named_by_payload(key: str) -> str:
    return key


BUILT_IN: list[tuple[str, BaseException, bool]] = [
    ("data_processing", ExportNotFound("there is no export"), True),
    ("data_processing", UnknownColumn("there is no column"), True),
    ("data_processing", DamagedExport("not quoted"), True),
    ("data_processing", ConnectionError("the database is away"), False),
    ("data_processing", OSError("the disk is full"), False),
    ("sync", ExportNotFound("there is no export"), True),
    ("sync", NotADirectoryError("not mounted"), False),
    ("export_report", CellTooLong("too long"), True),
    ("export_report", FileTooLarge("too large"), True),
    ("export_report", ReportFailed("refused"), False),
    ("notification", DeliveryRefused("example.com answered 404"), True),
    ("notification", DeliveryDelayed("example.com answered 503"), False),
    ("cleanup", PayloadError("any handler may raise it"), True),
    ("test_circuits.typed", KeyError("expected, as Celery's throws says"), True),
]


@pytest.mark.parametrize(("name", "error", "blamed"), BUILT_IN)
def test_a_handler_says_which_errors_are_its_payloads_fault(name: str, error: BaseException, blamed: bool) -> None:  # noqa: FBT001 - of the table
    """payload_errors and blames_payload decide which errors are the payload's fault."""
    assert handler(name).blames_payload(error) is blamed


def test_a_payload_that_cannot_be_called_with_is_at_fault_and_the_same_error_of_a_body_is_not() -> None:
    """A TypeError is the payload's fault only when it was raised before the body began."""
    of_body = raised(handler("test_circuits.typed").run, {"number": 1})
    assert isinstance(of_body, ValidationError)
    assert not handler("test_circuits.typed").blames_payload(of_body)
    assert handler("test_circuits.typed").blames_payload(raised(handler("test_circuits.typed").run, {"number": "x"}))
    assert handler("test_circuits.plain").blames_payload(raised(handler("test_circuits.plain").run))
    assert not handler("test_circuits.plain").blames_payload(raised(handler("test_circuits.plain").run, 1))


def handler(name: str) -> Job:
    """A handler by its name."""
    found = app.tasks[name]
    assert isinstance(found, Job)
    return found


KEYS: list[tuple[str, dict[str, Any], str]] = [
    ("notification", {"url": "https://Hooks.example/secret?token=1"}, "hooks.example"),
    ("notification", {"url": "https://u:p@hooks.example:8443/x"}, "hooks.example:8443"),
    ("notification", {"url": "http://[::1]:80/"}, "[::1]"),
    ("notification", {"channel": "log"}, ""),
    ("notification", {"url": "no address"}, ""),
    ("export_report", {"reportType": "jobs"}, "jobs"),
    ("cleanup", {}, ""),
    ("test_circuits.named", {"key": "a"}, "a"),
    ("test_circuits.named", {"args": [], "kwargs": {"key": "a"}}, "a"),
    ("test_circuits.named", {"args": ["a", 2], "kwargs": {}}, "a"),
]


@pytest.mark.parametrize(("name", "payload", "key"), KEYS)
def test_a_handler_names_the_circuit_of_a_payload(name: str, payload: dict[str, Any], key: str) -> None:
    """The built-in handlers name circuits by host or report type, and by nothing secret."""
    assert handler(name).circuit_of(payload) == key


@pytest.mark.parametrize("named", [None, 7, "x" * 10_000, "a\x00b", "\ud800", b"\xff"])
def test_whatever_a_handler_names_can_be_stored(named: Any) -> None:
    """A circuit key is cut to 255 bytes that the database can store."""
    key = handler("test_circuits.named").circuit_of({"key": named})
    assert (len(key.encode()) <= 255, "\x00" in key) == (True, False)


def test_a_handler_that_cannot_name_its_circuit_has_that_of_its_type() -> None:
    """A circuit_key that raises leaves the job in the circuit of its type."""
    assert handler("test_circuits.named").circuit_of({}) == ""


def test_only_failures_that_say_something_of_the_type_open_a_circuit(platform: LivePlatform) -> None:
    """Failures by the payload's fault open no circuit, and those of the service open the one of its host."""
    platform.start_worker(concurrency=2)
    wrong: list[Call] = [
        ("picky", [], {"what": what, "host": "a"}, {}) for what in ("order", "payload", "again") for _ in range(3)
    ]
    unfit: list[Call] = [("picky", [], {"what": "ok", "host": "a", "unknown": 1}, {}) for _ in range(3)]
    ids = platform.submit_all([*wrong, *unfit])
    for job_id in ids:
        platform.wait_for(job_id, "failed", "retrying")
    assert {platform.job(job_id).attempt for job_id in ids} == {1}
    assert opened(platform) == []
    service = platform.submit_all([("picky", [], {"what": "service", "host": "a"}, {}) for _ in range(2)])
    for job_id in service:
        platform.wait_for(job_id, "failed")
    eventually(lambda: opened(platform) == [("picky", "default", "a")], what="the open circuit")
    held, free = platform.submit_all([("picky", [], {"host": host}, {}) for host in ("a", "b")])
    assert platform.wait_for(free, "succeeded").circuit_key == "b"
    assert platform.job(held).hold == "circuit"


def test_five_mistakes_of_a_caller_and_two_dead_receivers_stop_nobody_else(platform: LivePlatform) -> None:
    """A caller's mistakes open no circuit, and a dead receiver opens only its own."""
    platform.environment["CELERIAC_WEBHOOKS_PRIVATE"] = "true"
    platform.start_worker(concurrency=2)
    missing = {"export": "00000000-0000-0000-0000-000000000000-1.csv"}
    mistakes = platform.submit_all([("data_processing", [missing], {}, {"priority": 9}) for _ in range(6)])
    dead = [_nobody() for _ in range(2)]
    calls: list[Call] = [("notification", [message(port)], {}, {}) for port in dead for _ in range(5)]
    platform.submit_all(calls)
    for job_id in mistakes:
        assert "there is no export" in str(platform.wait_for(job_id, "failed").error_message)
    expected = sorted(("notification", "default", f"127.0.0.1:{port}") for port in dead)
    eventually(lambda: opened(platform) == expected, within=40, what="the open circuits")
    with receiving() as receiver:
        delivered = platform.submit("notification", message(receiver.port))
        platform.wait_for(delivered, "succeeded")
    assert platform.job(platform.submit("notification", message(dead[0]))).hold == "circuit"


def message(port: int) -> dict[str, str]:
    """To a receiver on this machine."""
    return {"url": f"http://127.0.0.1:{port}/hook", "subject": "hello"}


def opened(platform: LivePlatform) -> list[tuple[str, str, str]]:
    """The circuits that are not closed."""
    with platform.database.autocommit() as connection:
        found = circuits.opened(connection, "default")
    return sorted((each.job_type, each.organization_id, each.key) for each in found)


def _nobody() -> int:
    """A port on which nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
