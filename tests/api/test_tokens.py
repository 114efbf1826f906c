"""Tokens: which are taken, and that every other one is 401."""

from __future__ import annotations

import base64
import hmac
import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import SecretStr

from api import auth
from api.problems import Problem
from tests.api.calling import Api, Caller, as_bytes, problem
from tracking.errors import ConfigurationError
from tracking.settings import Settings

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def ask(api: Api, authorization: str) -> httpx2.Response:
    """A request with this header."""
    return api.client.get("/v1/jobs", headers={"Authorization": authorization})


def claims(**changes: Any) -> dict[str, Any]:
    """What a valid token says."""
    now = int(time.time())
    valid = {"sub": "u1", "org": "acme", "permissions": ["jobs.view_jobs"], "iat": now, "exp": now + 60}
    return {**valid, "iss": "celeriac", "aud": "celeriac", **changes}


def unsigned(header: dict[str, Any], body: dict[str, Any], signature: str = "") -> str:
    """A token put together by hand."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, body)]
    return ".".join([*parts, signature])


def test_a_valid_token_is_taken(api: Api) -> None:
    """A valid token is accepted, whatever the case of `Bearer`."""
    assert ask(api, f"Bearer {api.token()}").status_code == 200
    assert ask(api, f"bearer {api.token()}").status_code == 200


@pytest.mark.parametrize("claim", auth.REQUIRED_CLAIMS)
def test_every_claim_is_required(api: Api, claim: str) -> None:
    """A token without a required claim is 401, and the answer names the claim."""
    body = problem(ask(api, f"Bearer {api.token(**{claim: None})}"), 401, "token_invalid")
    assert claim in body["detail"]


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("exp", "4102444800"),
        ("exp", "soon"),
        ("exp", 1e400),
        ("iat", "1"),
        ("iat", 4102444800),
        ("nbf", 4102444800),
        ("iss", "somebody"),
        ("iss", ["celeriac"]),
        ("aud", "other"),
        ("aud", ["other"]),
        ("aud", {}),
        ("sub", ""),
        ("sub", "x" * 256),
        ("sub", "a\x00b"),
        ("sub", 5),
        ("org", ""),
        ("org", "a\x00b"),
        ("org", "\ud800"),
        ("org", ["acme"]),
        ("org", "webhooks:acme"),
        ("permissions", "jobs.view_jobs"),
        ("permissions", [1]),
        ("permissions", {"jobs.view_jobs": True}),
    ],
    ids=str,
)
def test_a_claim_of_another_kind_is_refused(api: Api, claim: str, value: Any) -> None:
    """A claim of a wrong type is 401."""
    body = claims(**{claim: value})
    if claim == "iss":  # PyJWT does not sign such a one
        token = jwt.api_jws.encode(json.dumps(body).encode(), api.secret, "HS256")
    else:
        token = jwt.encode(body, api.secret, "HS256")
    response = ask(api, f"Bearer {token}")
    problem(response, 401, "token_invalid")
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_an_expired_token_says_so(api: Api) -> None:
    """An expired token has an error code of its own."""
    problem(ask(api, f"Bearer {api.token(exp=int(time.time()) - 60)}"), 401, "token_expired")


def test_only_the_one_algorithm_is_taken(api: Api) -> None:
    """Tokens with `none`, a longer hash or another family of keys are refused, whatever they name."""
    pem = RSA_KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    tokens = [
        jwt.encode(claims(), "", "none"),
        unsigned({"alg": "none"}, claims()),
        unsigned({"alg": "None"}, claims()),
        unsigned({"alg": "HS256"}, claims()),
        unsigned({"alg": ["HS256"]}, claims(), "AAAA"),
        unsigned({}, claims(), "AAAA"),
        jwt.encode(claims(), api.secret * 2, "HS512"),
        jwt.encode(claims(), pem, "RS256"),
        jwt.encode(claims(), EC_KEY, "ES256"),
        jwt.encode(claims(), "another secret that is long enough to sign", "HS256"),
    ]
    for token in tokens:
        problem(ask(api, f"Bearer {token}"), 401, "token_invalid")


@pytest.mark.parametrize("header", ["", "Bearer", "Basic dTpw", "Token x"])
def test_without_a_bearer_token_it_is_asked_for(api: Api, header: str) -> None:
    """A request without a token is 401 with the challenge of RFC 6750, which names no error."""
    response = ask(api, header)
    problem(response, 401, "token_missing")
    assert response.headers["www-authenticate"] == 'Bearer realm="celeriac"'


@pytest.mark.parametrize("token", ["x", "a.b", "a.b.c", "....", "é", "x" * 5000, "e30.e30.e30", "bnVsbA.bnVsbA."])
def test_what_is_no_token_is_refused(api: Api, token: str) -> None:
    """A broken token is 401, however it is broken."""
    sent = as_bytes({"Authorization": f"Bearer {token}".encode("latin-1")})
    response = api.client.get("/v1/jobs", headers=sent)
    problem(response, 401, "token_invalid")


def test_nothing_is_read_from_whom_nobody_knows(caller: Caller) -> None:
    """Without a valid token a body that could not be parsed is not read."""
    response = caller.api.client.post("/v1/jobs", content=b"{", headers={"Content-Type": "application/json"})
    problem(response, 401, "token_missing")


class Keys(http.server.BaseHTTPRequestHandler):
    """A server of public keys that counts how often it is asked."""

    asked = 0
    answer: bytes = b""
    status = 200

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Be quiet."""


def published(key: Any, kid: str, **more: str) -> dict[str, Any]:
    """A public key as a JWK."""
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **more}


@contextmanager
def keys_at(answer: object = None, *, status: int = 200) -> Iterator[tuple[str, type[Keys]]]:
    """The address of a server of these keys."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    handler = type("Served", (Keys,), {"answer": body, "status": status, "asked": 0})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/keys", handler
        finally:
            server.shutdown()


def settings(**values: Any) -> Settings:
    """Settings with no secret of the environment."""
    return Settings(**{"jwt_secret": SecretStr(""), **values})


def verify(verifier: auth.Verifier, token: str) -> auth.Principal:
    return anyio.run(verifier.principal, token)


def refusal(verifier: auth.Verifier, token: str) -> str:
    """The code with which the token is refused."""
    with pytest.raises(Problem) as raised:
        verify(verifier, token)
    return str(raised.value.code)


@pytest.fixture
def public_keys() -> Iterator[auth.Verifier]:
    """A verifier that fetches one key of each family."""
    with keys_at({"keys": [published(RSA_KEY, "r"), published(EC_KEY, "e", alg="ES256")]}) as (url, _):
        yield auth.verifier(settings(jwks_url=url))


@pytest.mark.parametrize(("key", "kid", "algorithm"), [(RSA_KEY, "r", "RS256"), (EC_KEY, "e", "ES256")])
def test_published_keys_are_used(public_keys: auth.Verifier, key: Any, kid: str, algorithm: str) -> None:
    """Tokens with RS256 and ES256 are checked by the published keys, claims as with a secret."""
    principal = verify(public_keys, jwt.encode(claims(), key, algorithm, {"kid": kid}))
    assert (principal.organization, principal.user) == ("acme", "u1")
    expired = jwt.encode(claims(exp=1), key, algorithm, {"kid": kid})
    assert refusal(public_keys, expired) == "token_expired"


def test_a_public_key_is_no_secret(public_keys: auth.Verifier) -> None:
    """Tokens are refused that misuse a public key, its id or the algorithm."""
    public = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    forged = unsigned({"alg": "HS256", "kid": "r"}, claims()).rstrip(".")
    signature = base64.urlsafe_b64encode(hmac.digest(public, forged.encode(), "sha256")).decode().rstrip("=")
    tokens = [
        f"{forged}.{signature}",
        jwt.encode(claims(), RSA_KEY, "RS256", {"kid": "e"}),
        jwt.encode(claims(), EC_KEY, "ES256", {"kid": "r"}),
        jwt.encode(claims(), RSA_KEY, "RS512", {"kid": "r"}),
        jwt.encode(claims(), RSA_KEY, "RS256"),
        jwt.encode(claims(), RSA_KEY, "RS256", {"kid": "unknown"}),
        jwt.encode(claims(), "", "none", {"kid": "r"}),
        unsigned({"alg": "RS256", "kid": "r"}, claims()),
        "nonsense",
    ]
    for token in tokens:
        assert refusal(public_keys, token) == "token_invalid"


def test_a_short_rsa_key_is_refused() -> None:
    """A published RSA key that is too short is not used."""
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that is the point
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = jwt.encode(claims(), short, "RS256", {"kid": "s"})
    with keys_at({"keys": [published(short, "s")]}) as (url, _):
        assert refusal(auth.verifier(settings(jwks_url=url)), token) == "token_invalid"


def test_keys_are_fetched_once() -> None:
    """Keys are not fetched for every token, nor for every unknown key id."""
    with keys_at({"keys": [published(RSA_KEY, "r")]}) as (url, server):
        verifier = auth.verifier(settings(jwks_url=url))
        for _ in range(5):
            verify(verifier, jwt.encode(claims(), RSA_KEY, "RS256", {"kid": "r"}))
            refusal(verifier, jwt.encode(claims(), RSA_KEY, "RS256", {"kid": "unknown"}))
        assert server.asked == 1


@pytest.mark.parametrize(
    ("answer", "status"), [({"keys": []}, 500), (b"<html>", 200), (["keys"], 200), ({"keys": []}, 200)]
)
def test_without_keys_nobody_is_let_in_and_nobody_is_blamed(answer: object, status: int) -> None:
    """Without keys tokens are answered with 503, and the key server is left alone for a while."""
    with keys_at(answer, status=status) as (url, server):
        verifier = auth.verifier(settings(jwks_url=url))
        token = jwt.encode(claims(), RSA_KEY, "RS256", {"kid": "r"})
        assert {refusal(verifier, token) for _ in range(3)} == {"keys_unavailable"}
        assert server.asked == 1


def test_a_server_of_keys_that_is_not_there_is_503() -> None:
    """Tokens are answered with 503 while nobody listens at the key server's address."""
    verifier = auth.verifier(settings(jwks_url="http://127.0.0.1:1/keys"))
    assert refusal(verifier, jwt.encode(claims(), RSA_KEY, "RS256", {"kid": "r"})) == "keys_unavailable"


@pytest.mark.parametrize(
    "values",
    [
        {"jwt_secret": SecretStr("short")},
        {"jwt_secret": SecretStr("changeme" * 5)},
        {"jwks_url": "https://keys.invalid", "jwt_secret": SecretStr("Zk3v9Qp1Lw8sRt5yUb2nHx7dGf4jMc6a")},
    ],
    ids=str,
)
def test_keys_that_cannot_be_trusted_stop_the_start(values: dict[str, Any]) -> None:
    """A weak secret, a sample secret, or two kinds of keys stop the start."""
    with pytest.raises(ConfigurationError):
        auth.verifier(settings(**values))
