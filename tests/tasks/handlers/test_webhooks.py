"""Webhooks: what is sent, what an answer means, and when one is no longer waited for."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress

import pytest

from tasks.handlers.notification import notification
from tasks.webhooks.delivery import DeliveryDelayed, DeliveryRefused, deliver
from tests.handling import call
from tests.receiving import ANYWHERE, Receiver, note


def test_a_webhook_gets_the_message_and_the_jobs_id_as_key(receiver: Receiver) -> None:
    """A webhook gets the message, and the same Idempotency-Key at every attempt."""
    url = f"http://127.0.0.1:{receiver.port}/hook?token=secret"
    result = call(notification, note(url, message="Ready", data={"exportId": "e1"}))
    assert result == {"channel": "webhook", "receiver": "127.0.0.1", "status": 204, "refused": None}
    ((path, headers, body),) = receiver.requests
    assert path == "/hook?token=secret"
    assert headers["idempotency-key"] == body.pop("jobId")
    assert body == {"organizationId": "acme", "subject": "Done", "message": "Ready", "data": {"exportId": "e1"}}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
def test_a_receiver_that_cannot_take_it_now_is_asked_again(status: int, receiver: Receiver) -> None:
    """An answer that is worth another attempt is a ConnectionError that names the host alone."""
    receiver.status = status
    with pytest.raises(DeliveryDelayed) as delayed:
        call(notification, note(f"http://127.0.0.1:{receiver.port}/secret"))
    assert isinstance(delayed.value, ConnectionError)
    assert str(delayed.value) == f"127.0.0.1 answered {status}"


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 401, 404, 410])
def test_a_refusal_is_final_and_no_redirect_is_followed(status: int, receiver: Receiver) -> None:
    """A refusal by the receiver is final, and a redirect is one."""
    receiver.status = status
    with pytest.raises(DeliveryRefused, match=f"answered {status}"):
        call(notification, note(f"http://127.0.0.1:{receiver.port}/"))
    assert len(receiver.requests) == 1


def test_a_receiver_that_is_away_is_asked_again(receiver: Receiver) -> None:
    """A receiver at whose port nobody listens is asked again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(DeliveryDelayed, match="cannot be reached: ConnectError"):
            deliver(f"http://127.0.0.1:{unused.getsockname()[1]}/", {}, idempotency_key="1", reach=ANYWHERE)


def test_a_receiver_that_never_answers_is_given_up(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that never answers is given up in time."""
    monkeypatch.setattr("tasks.webhooks.delivery.SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DeliveryDelayed, match="ReadTimeout"):
        deliver(f"http://127.0.0.1:{silent.getsockname()[1]}/", {}, idempotency_key="1", reach=ANYWHERE)


def test_a_receiver_that_resets_the_connection_is_asked_again(receiver: Receiver) -> None:
    """A receiver that takes the request and resets the connection is asked again."""

    def reset() -> None:
        connection, _ = resetting.accept()
        connection.recv(65536)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as resetting:
        thread = threading.Thread(target=reset)
        thread.start()
        with pytest.raises(DeliveryDelayed, match=r"cannot be reached: (Read|Write|RemoteProtocol)Error"):
            deliver(f"http://127.0.0.1:{resetting.getsockname()[1]}/", {}, idempotency_key="1", reach=ANYWHERE)
        thread.join(5)


def test_a_receiver_that_drips_is_given_up_at_the_deadline(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that drips bytes is given up at the delivery's deadline."""
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
            deliver(f"http://127.0.0.1:{dripping.getsockname()[1]}/", {}, idempotency_key="1", reach=ANYWHERE)
        assert time.monotonic() - begun < 2
        stopped.set()
        thread.join(5)


def test_an_endless_answer_is_not_read(receiver: Receiver) -> None:
    """Of a receiver's answer 64 KiB are read; headers that are longer are no answer."""

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
            deliver(f"http://127.0.0.1:{pouring.getsockname()[1]}/", {}, idempotency_key="1", reach=ANYWHERE)
        thread.join(5)


def test_a_slow_name_server_is_given_up_at_the_deadline(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow look-up of the receiver's name is given up at the delivery's deadline."""
    monkeypatch.setattr("tasks.webhooks.delivery.SECONDS", 0.2)
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(10) and [])
    with pytest.raises(DeliveryDelayed, match=r"(Connect|Read)Timeout"):  # a busy machine may notice it a moment later
        deliver("http://hook.test/", {}, idempotency_key="1", reach=ANYWHERE)
    answered.set()


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("7", 7), ("999999999999999999999", 3600), ("Wed, 01 Jan 2020 00:00:00 GMT", 0),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
     ("-1", None), ("soon", None), ("\u0661", None), ("", None)],
)  # fmt: skip
def test_the_receiver_may_say_when_to_come_again(written: str, seconds: float | None, receiver: Receiver) -> None:
    """A receiver's Retry-After, in seconds or as a date, is kept up to an hour."""
    receiver.status, receiver.retry_after = 429, written.encode("utf-8").decode("latin-1")
    with pytest.raises(DeliveryDelayed) as delayed:
        call(notification, note(f"http://127.0.0.1:{receiver.port}/"))
    assert delayed.value.retry_after == seconds
