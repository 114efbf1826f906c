"""Signing in at the dashboard with an OpenID Connect provider: one that the tests run, which checks what it gets."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from api.oidc import Provider
from tests.api.calling import PLAIN
from tests.api.conftest import serving
from tracking.settings import Settings

CLIENT, SECRET = "celeriac-dashboard", "a secret that both have"
CLAIMS = {"sub": "mara", "tenant": {"id": "acme"}, "groups": ["ops", "strangers"]}
GRANTS = "ops=jobs.view_jobs jobs.view_all, viewers=jobs.view_jobs"


class OpenProvider(ThreadingHTTPServer):
    """A provider with one person, who says yes; `said` is changed by tests to have it say what it must not."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.stranger = ec.generate_private_key(ec.SECP256R1())
        self.asked: dict[str, dict[str, str]] = {}  # by the codes
        self.said: dict[str, Any] = {}
        self.signs_with = self.key
        self.answers: tuple[int, dict[str, Any]] | None = None  # to whoever asks for a token

    def token(self, code: str) -> str:
        """The ID token for what was asked with a code."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": self.asked[code]["nonce"]}
        said = {name: value for name, value in {**claims, **CLAIMS, **self.said}.items() if value is not None}
        return jwt.encode(said, self.signs_with, "ES256", headers={"kid": "one"})


class _Answers(BaseHTTPRequestHandler):
    server: OpenProvider

    def do_GET(self) -> None:
        place, of = urlsplit(self.path), self.server
        if place.path == "/.well-known/openid-configuration":
            endpoints = {f"{name}_endpoint": f"{of.issuer}/{name}" for name in ("authorization", "token")}
            self._say(200, {"issuer": of.issuer, "jwks_uri": f"{of.issuer}/keys", **endpoints})
        elif place.path == "/keys":
            key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(of.key.public_key()))
            self._say(200, {"keys": [{**key, "kid": "one", "use": "sig", "alg": "ES256"}]})
        else:
            asked = dict(parse_qsl(place.query))
            code = hashlib.sha256(place.query.encode()).hexdigest()
            of.asked[code] = asked
            self.send_response(302)
            self.send_header(
                "Location", f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"
            )
            self.end_headers()

    def do_POST(self) -> None:
        body = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        asked = self.server.asked.get(body.get("code", ""), {})
        digest = hashlib.sha256(body.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        who = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if self.server.answers is not None:
            self._say(*self.server.answers)
        elif (asked.get("code_challenge"), asked.get("code_challenge_method")) != (challenge, "S256"):
            self._say(400, {"error": "invalid_grant"})
        elif self.headers.get("Authorization") != f"Basic {who}" or body["redirect_uri"] != asked["redirect_uri"]:
            self._say(401, {"error": "invalid_client"})
        else:
            self._say(200, {"access_token": "a", "token_type": "Bearer", "id_token": self.server.token(body["code"])})

    def _say(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def running() -> Iterator[OpenProvider]:
    with OpenProvider() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def open_provider(running: OpenProvider) -> OpenProvider:
    """The same, which says nothing but what is right."""
    running.said, running.signs_with, running.answers = {}, running.key, None
    return running


@pytest.fixture(scope="module")
def address(
    running: OpenProvider, api_database_url: str, api_broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Where an API is that has this provider."""
    named = {"ISSUER": running.issuer, "CLIENT_ID": CLIENT, "CLIENT_SECRET": SECRET, "GRANTS": GRANTS}
    claims = {"ORGANIZATION_CLAIM": "tenant.id", "PERMISSIONS_CLAIM": "groups"}
    given = {f"CELERIAC_OIDC_{name}": value for name, value in {**named, **claims}.items()}
    with serving(api_database_url, api_broker_url, tmp_path_factory.mktemp("oidc"), **given) as api:
        yield api.url


def configured(running: OpenProvider, **more: Any) -> Settings:
    """Settings that name this provider."""
    named = {"oidc_issuer": running.issuer, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET}
    claims = {"oidc_organization_claim": "tenant.id", "oidc_permissions_claim": "groups", "oidc_grants": GRANTS}
    return Settings(**{**named, **claims, **more})


@contextmanager
def asking(address: str) -> Iterator[httpx2.Client]:
    """A browser without a script."""
    with httpx2.Client(verify=PLAIN, base_url=address, timeout=30, headers={"Accept": "text/html"}) as client:
        yield client


@pytest.fixture
def client(address: str) -> Iterator[httpx2.Client]:
    """A browser without a script, in which nobody has signed in."""
    with asking(address) as asked:
        yield asked


def go(client: httpx2.Client, address: str = "/sign-in/oidc?next=/types") -> httpx2.Response:
    """What the callback is, after the provider has said yes."""
    return httpx2.get(client.get(address).headers["location"])


def test_somebody_signs_in_with_the_provider(client: httpx2.Client, open_provider: OpenProvider) -> None:
    """The provider's claims are the organization, the user and the permissions of the session, by the settings."""
    page = client.get("/sign-in").text
    assert f"Sign in with 127.0.0.1:{open_provider.server_port}" in page
    assert "Or paste" in page
    back = client.get(go(client).headers["location"])
    assert (back.status_code, back.headers["location"]) == (303, "/types")
    shown = client.get("/types").text
    assert "acme · mara" in shown
    assert 'href="/audit"' not in shown
    assert client.get(go(client, "/sign-in/oidc?next=//elsewhere").headers["location"]).headers["location"] == "/"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"nonce": "of another sign-in"}, "ID token is not right"),
        ({"nonce": None}, "ID token is not right"),
        ({"aud": "another-client"}, "ID token is not right"),
        ({"aud": [CLIENT, "another"], "azp": "another"}, "ID token is not right"),
        ({"iss": "https://elsewhere.example"}, "ID token is not right"),
        ({"exp": 1}, "ID token is not right"),
        ({"at_hash": "of another token"}, "ID token is not right"),
        ({"tenant": {}}, "no tenant.id of you"),
        ({"tenant": {"id": "*"}}, "no tenant.id of you"),
        ({"sub": ""}, "no sub of you"),
    ],
)
def test_an_id_token_that_is_not_for_this_is_refused(
    client: httpx2.Client, open_provider: OpenProvider, said: dict[str, Any], why: str
) -> None:
    """Nobody is signed in by a token of another sign-in, client or provider, or by one that names nobody."""
    open_provider.said = said
    back = client.get(go(client).headers["location"])
    assert (back.status_code, why in back.text) == (401, True), back.text
    assert client.get("/types").status_code == 303


def test_an_answer_to_another_sign_in_is_refused(
    address: str, client: httpx2.Client, open_provider: OpenProvider
) -> None:
    """A callback needs the browser that began, its state, an issuer that is the provider, and a key that is known."""
    with asking(address) as other:
        theirs = go(other).headers["location"]
    assert client.get(theirs).status_code == 401
    mine = go(client).headers["location"]
    assert "belongs to another sign-in" in client.get(theirs).text
    assert "too long" in client.get(mine).text, "what was begun is over with the first answer"
    mixed = f"{go(client).headers['location']}&iss=https%3A%2F%2Felsewhere.example"
    assert "of another provider" in client.get(mixed).text
    state = parse_qs(urlsplit(go(client).headers["location"]).query)["state"][0]
    denied = client.get(f"/sign-in/oidc/callback?error=access_denied&state={state}")
    assert (denied.status_code, "access_denied" in denied.text) == (401, True)
    open_provider.signs_with = open_provider.stranger
    assert client.get(go(client).headers["location"]).status_code == 401


def test_a_provider_that_is_away_or_says_no_is_said(client: httpx2.Client, open_provider: OpenProvider) -> None:
    """A provider that fails is a 503, its refusal of a code a 401, and the page takes a token all the same."""
    open_provider.answers = (400, {"error": "invalid_grant"})
    back = client.get(go(client).headers["location"])
    assert (back.status_code, "invalid_grant" in back.text) == (401, True)
    assert "Or paste" in back.text
    open_provider.answers = (503, {})
    back = client.get(go(client).headers["location"])
    assert (back.status_code, "cannot be asked now" in back.text) == (503, True)
    assert client.get("/sign-in/oidc/callback?state=x&code=y").status_code == 401


def test_permissions_are_those_of_the_claim_unless_it_has_names(open_provider: OpenProvider) -> None:
    """Without grants the claim has permissions, as a list or a text; with them unknown names grant nothing."""
    plain = Provider(configured(open_provider, oidc_grants="", oidc_permissions_claim="scope"))
    found = plain.rights({**CLAIMS, "iat": 1, "scope": "jobs.view_jobs jobs.retry_jobs"})
    assert found.permissions == {"jobs.view_jobs", "jobs.retry_jobs"}
    named = Provider(configured(open_provider, oidc_organization="all-of-us"))
    assert named.rights({**CLAIMS, "iat": 1, "groups": ["strangers", 7]}).permissions == frozenset()
    assert named.rights({"sub": "x", "iat": 1}).organization_id == "all-of-us"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"oidc_issuer": "x"}, "https://host/path"),
        ({"oidc_issuer": "https://id.example", "oidc_client_id": ""}, "needs it"),
        ({"oidc_scopes": "profile"}, "openid"),
        ({"oidc_grants": "ops"}, "it is not like"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], why: str) -> None:
    """A wrong setting of the provider stops the start and says what is wrong with it."""
    with pytest.raises(ValueError, match=why):
        Settings(**given)
