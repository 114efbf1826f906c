"""notification: what it writes to its own log, and which notifications are refused."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.handlers.notification import SendNotification, notification
from tests.handling import call
from tests.receiving import note


def test_the_log_gets_one_line_that_only_we_can_read(place: Path) -> None:
    """The channel `log` writes one line to a private file, and not to the platform's log."""
    assert call(notification, note(message="Grüße", data={"a": [1]})) == {
        "channel": "log", "receiver": "notifications.jsonl", "status": None, "refused": None,
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
    """A notification without an address, with another scheme, or with money in it is refused."""
    with pytest.raises(ValidationError):
        SendNotification.model_validate(payload)
