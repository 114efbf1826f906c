"""Signatures of deliveries, by Standard Webhooks 1.0.0 (standardwebhooks.com): whoever knows the secret can check."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"  # before a secret as people see it


def headers(message_id: str, at: datetime, content: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The three headers of a delivery that is sent at this moment, signed with each of these secrets, base64."""
    seconds = int(at.timestamp())
    signed = f"{message_id}.{seconds}.".encode() + content
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{_signature(secret, signed)}" for secret in secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    return base64.b64encode(hmac.new(base64.b64decode(secret), signed, hashlib.sha256).digest()).decode()
