"""Tokens that a process remembers as verified: no longer than they hold, and never under another key."""

from __future__ import annotations

import secrets
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from api import auth, keys
from tests.api.test_keys import answering, listing
from tests.api.test_tokens import RSA_KEY, claims, published, refusal, settings, verify

SECRET = secrets.token_urlsafe(48)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def shared_secret() -> auth.Verifier:
    """A verifier of tokens that SECRET has signed."""
    return auth.verifier(settings(jwt_secret=SecretStr(SECRET)))


def test_a_remembered_token_is_refused_once_it_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is taken until the second of its `exp`, and as long as clocks may differ, and refused from there on."""
    monkeypatch.setattr(auth, "LEEWAY", 0)
    verifier, expires = shared_secret(), int(time.time()) + 2
    token = jwt.encode(claims(exp=expires), SECRET, "HS256")
    while time.time() < expires - 0.1:
        assert verify(verifier, token).user == "u1"
    time.sleep(max(0.0, expires - time.time()))
    assert refusal(verifier, token) == "token_expired"


def test_a_token_that_differs_in_its_last_byte_is_not_the_remembered_one() -> None:
    """A token with the signature changed is refused after the true one was taken."""
    verifier, token = shared_secret(), jwt.encode(claims(), SECRET, "HS256")
    assert verify(verifier, token).user == "u1"
    changed = token[:-6] + ("A" if token[-6] != "A" else "B") + token[-5:]
    assert refusal(verifier, changed) == "token_invalid"


def test_a_remembered_token_is_refused_when_its_key_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of the same id that was published since did not sign the token."""
    monkeypatch.setattr(keys, "UNKNOWN_PAUSE", 0.0)
    listed = [published(RSA_KEY, "r")]

    with answering(listing(listed)) as server:
        verifier = auth.verifier(settings(jwks_url=server.url))
        token = jwt.encode(claims(), RSA_KEY, "RS256", {"kid": "r"})
        assert verify(verifier, token).user == "u1"
        listed[:] = [published(OTHER_KEY, "r"), published(RSA_KEY, "new")]
        verify(verifier, jwt.encode(claims(), RSA_KEY, "RS256", {"kid": "new"}))  # has the keys fetched again
        assert refusal(verifier, token) == "token_invalid"


def test_a_bounded_number_of_tokens_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MOST_VERIFIED the token used longest ago is forgotten, and is verified again when it comes."""
    monkeypatch.setattr(auth, "MOST_VERIFIED", 3)
    verifier = shared_secret()
    tokens = [jwt.encode(claims(sub=f"u{number}"), SECRET, "HS256") for number in range(5)]
    for _ in range(2):
        assert [verify(verifier, token).user for token in tokens] == [f"u{number}" for number in range(5)]
    assert list(verifier._verified._known) == tokens[-3:]  # type: ignore[attr-defined]  # of both kinds of verifiers
