"""The door: how old and of which kind tokens may be, how many requests are taken, and which sites may send them."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from pydantic import SecretStr, ValidationError

from api import auth, rates
from api.auth import Principal
from api.problems import Problem
from api.rates import Rates
from tests.api.calling import problem
from tests.api.conftest import serving
from tests.api.test_tokens import claims, refusal, settings, verify
from tracking.errors import ConfigurationError

SECRET, FORMER = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
PAGE = "https://app.example.org"


def signed(headers: dict[str, Any] | None = None, *, secret: str = SECRET, **changes: Any) -> str:
    """A valid token but for these."""
    return jwt.encode(claims(**changes), secret, "HS256", headers)


def verifier(**values: Any) -> auth.Verifier:
    """What checks tokens that SECRET has signed."""
    return auth.verifier(settings(jwt_secret=SecretStr(SECRET), **values))


def test_clocks_may_differ_by_half_a_minute() -> None:
    """A token that is 20 seconds over, or made 20 seconds from now, is taken; at 40 seconds none is."""
    now = int(time.time())
    for token in (signed(exp=now - 20), signed(iat=now + 20), signed(nbf=now + 20)):
        assert verify(verifier(), token).user == "u1"
    assert refusal(verifier(), signed(exp=now - 40)) == "token_expired"
    assert refusal(verifier(), signed(iat=now + 40)) == refusal(verifier(), signed(nbf=now + 40)) == "token_invalid"


def test_a_token_that_lives_too_long_is_refused() -> None:
    """A token made for a day is taken, one for a second more is not, unless a setting says so."""
    now, day = int(time.time()), 86_400
    assert verify(verifier(), signed(iat=now, exp=now + day)).user == "u1"
    with pytest.raises(Problem) as refused:
        verify(verifier(), signed(iat=now, exp=now + day + 1))
    assert "86400" in refused.value.detail
    assert verify(verifier(token_life=2 * day), signed(iat=now, exp=now + day + 1)).user == "u1"
    assert refusal(verifier(token_life=60), signed(iat=now, exp=now + 61)) == "token_invalid"


@pytest.mark.parametrize(
    ("token", "word"),
    [
        (lambda: signed(aud="other"), "`aud`"),
        (lambda: signed(iss="other"), "`iss`"),
        (lambda: signed(secret=FORMER), "key"),
        (lambda: signed(iat=int(time.time()) + 3600), "clock"),
        (lambda: signed(nbf="soon"), "`nbf`"),
        (lambda: signed(nbf=[1]), "`nbf`"),
        (lambda: signed(iat=float("nan")), "`iat`"),
        (lambda: signed(exp=float("inf")), "`exp`"),
        (lambda: jwt.encode(claims(), SECRET * 2, "HS512"), "signed in a way"),
        (lambda: "no.token.atall", "no JWT"),
        (lambda: "", "no JWT"),
    ],
    ids=[
        "audience",
        "issuer",
        "key",
        "clock",
        "not before",
        "times",
        "issued",
        "expires",
        "algorithm",
        "no token",
        "nothing",
    ],
)
def test_a_refusal_says_in_words_what_is_wrong(token: Callable[[], str], word: str) -> None:
    """The detail of a 401 is a sentence for people, and names no class of a library."""
    with pytest.raises(Problem) as refused:
        verify(verifier(), token())
    assert word in refused.value.detail
    assert "Error" not in refused.value.detail


DEEP = "[" * 15_000 + "]" * 15_000
DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        ('{"alg": "HS256", "crit": ["exp"]}', "{}"),
        ('{"alg": "HS256", "crit": ["b64"], "b64": false}', "{}"),
        ('{"alg": "HS256", "kid": {}}', "{}"),
        (f'{{"alg": "HS256", "x": {DEEP}}}', "{}"),
        (f'{{"alg": "HS256", "x": {DIGITS}}}', "{}"),
        ("[]", "{}"),
        ('{"alg": "HS256"}', "[]"),
        ('{"alg": "HS256"}', f'{{"x": {DEEP}}}'),
        ('{"alg": "HS256"}', f'{{"x": {DIGITS}}}'),
        ('{"alg": "HS256"}', '{"x": '),
    ],
    ids=["critical", "b64", "key", "deep", "digits", "list", "claims list", "deep claims", "claims digits", "cut off"],
)
def test_what_no_issuer_writes_is_refused_though_it_is_signed(header: str, payload: str) -> None:
    """A token with the right signature over a header or claims that nobody means is 401, and never an error of ours."""
    words = [jwt.utils.base64url_encode(part.encode()) for part in (header, payload)]
    signature = hmac.digest(SECRET.encode(), b".".join(words), "sha256")
    token = b".".join([*words, jwt.utils.base64url_encode(signature)]).decode()
    assert refusal(verifier(), token) == "token_invalid"


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
def test_tokens_of_these_kinds_are_taken(kind: str | None) -> None:
    """A token that says that it is an access token, or nothing, is taken."""
    assert verify(verifier(), signed({"typ": kind})).user == "u1"


@pytest.mark.parametrize("kind", ["logout+jwt", "dpop+jwt", "secevent+jwt", "", "JWS"])
def test_tokens_that_are_made_for_something_else_are_refused(kind: str) -> None:
    """A token whose `typ` says that it is something else is refused, though its signature is right."""
    assert refusal(verifier(), jwt.api_jws.encode(b"{}", SECRET, "HS256", {"typ": kind})) == "token_invalid"
    assert refusal(verifier(), jwt_with(kind)) == "token_invalid"


def jwt_with(kind: str) -> str:
    """A token with this `typ`, which PyJWT leaves out when it is empty."""
    said = ({"alg": "HS256", "typ": kind}, claims())
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in said]
    signature = hmac.digest(SECRET.encode(), b".".join(parts), "sha256")
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def test_two_secrets_are_taken_while_one_replaces_the_other() -> None:
    """Tokens of the new and of the former secret are taken, claims are checked for both, and no third secret is."""
    both = verifier(jwt_former_secret=SecretStr(FORMER))
    for secret in (SECRET, FORMER):
        assert verify(both, signed(secret=secret)).user == "u1"
        assert verify(both, signed(secret=secret)).user == "u1"
        assert refusal(both, signed(secret=secret, exp=1)) == "token_expired"
        assert refusal(both, signed(secret=secret, aud="other")) == "token_invalid"
    assert refusal(both, signed(secret=secrets.token_urlsafe(48))) == "token_invalid"
    assert refusal(verifier(), signed(secret=FORMER)) == "token_invalid"


@pytest.mark.parametrize("former", ["short", "changeme" * 5])
def test_a_weak_former_secret_stops_the_start(former: str) -> None:
    """The secret that is being replaced is as strong as the new one, and none stands beside public keys."""
    with pytest.raises(ConfigurationError, match="CELERIAC_JWT_FORMER_SECRET"):
        verifier(jwt_former_secret=SecretStr(former))
    with pytest.raises(ConfigurationError):
        auth.verifier(settings(jwks_url="https://keys.invalid", jwt_former_secret=SecretStr(FORMER)))


class Clock:
    """A time that only a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def taken(limited: Rates, organization: str, user: str = "u1", most: int = 50) -> int:
    """How many requests are taken at once, and then refused with a time to wait."""
    principal = Principal(organization, user, frozenset())
    for number in range(most):
        try:
            limited.take(principal)
        except Problem as refused:
            return number if str(refused.code) == "too_many_requests" and refused.headers else -1
    return most


def test_an_organization_has_its_rate_and_no_other_one_pays() -> None:
    """As many requests as the rate are taken at once, then as many in each second; another organization has its own."""
    clock = Clock()
    limited = Rates(settings(api_rate=10), clock)
    assert (taken(limited, "acme"), taken(limited, "acme"), taken(limited, "globex")) == (10, 0, 10)
    clock.now += 0.5
    assert taken(limited, "acme") == 5
    clock.now += 60
    assert taken(limited, "acme") == 10


def test_a_user_has_a_rate_within_the_organizations() -> None:
    """A user takes no more than their own rate, another user has as much, and both no more than the organization."""
    limited = Rates(settings(api_rate=5, api_user_rate=3), Clock())
    assert [taken(limited, "acme", user) for user in ("u1", "u2", "u3")] == [3, 2, 0]
    assert taken(limited, "globex", "u1") == 3


def test_without_a_rate_any_number_is_taken() -> None:
    """Nothing is limited unless a setting says so; a rate of less than one a second takes one at a time."""
    assert taken(Rates(settings(), Clock()), "acme") == 50
    clock = Clock()
    slow = Rates(settings(api_rate=0.5), clock)
    assert taken(slow, "acme") == 1
    clock.now += 2
    assert taken(slow, "acme") == 1


def test_a_bounded_number_of_callers_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller whose rate is there again is forgotten, and of more than are kept the one seen longest ago."""
    monkeypatch.setattr(rates, "MOST_KEPT", 3)
    clock = Clock()
    limited = Rates(settings(api_rate=1), clock)
    for number in range(9):
        taken(limited, f"org-{number}")
    kept = limited._organizations._until
    assert len(kept) == 3
    assert taken(limited, "org-8") == 0
    clock.now += 5
    taken(limited, "acme")
    assert set(kept) == {"acme"}


def test_the_api_answers_429_and_serves_others(api_database_url: str, api_broker_url: str, tmp_path: Path) -> None:
    """Beyond the rate a request is 429 with Retry-After, before its body is read; another organization is answered."""
    with serving(api_database_url, api_broker_url, tmp_path, CELERIAC_API_RATE="2") as api:
        caller, other = api.caller(), api.caller()
        answers = [caller.get("/v1/jobs") for _ in range(6)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        problem(refused[-1], 429, "too_many_requests")
        assert int(refused[-1].headers["Retry-After"]) == 1
        problem(caller.send(b"{"), 429, "too_many_requests")
        assert other.get("/v1/jobs").status_code == 200
        assert api.client.get("/livez").status_code == 200


def test_no_site_may_call_unless_it_is_named(api_database_url: str, api_broker_url: str, tmp_path: Path) -> None:
    """A page of a site that is named may call, with a token and never with a cookie; of any other, none may."""
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with serving(
        api_database_url, api_broker_url, tmp_path, CELERIAC_CORS_ORIGINS=f"{PAGE}, http://localhost:5173"
    ) as api:
        caller = api.caller()
        preflight = api.client.options("/v1/jobs", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == PAGE
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        answer = caller.get("/v1/jobs", headers={"Origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "ETag" in answer.headers["access-control-expose-headers"]
        for response in (preflight, answer):
            assert "access-control-allow-credentials" not in response.headers
            assert "Origin" in response.headers["vary"]
        failed = api.client.get("/v1/jobs", headers={"Origin": PAGE})
        assert problem(failed, 401, "token_missing")
        assert failed.headers["access-control-allow-origin"] == PAGE
        for stranger in ("https://evil.example", f"{PAGE}.evil.example", "null", PAGE.upper()):
            refused = api.client.options("/v1/jobs", headers={**asked, "Origin": stranger})
            assert refused.status_code == 400
            assert "access-control-allow-origin" not in refused.headers
            assert "access-control-allow-origin" not in caller.get("/v1/jobs", headers={"Origin": stranger}).headers


def test_by_default_no_other_site_may_call(api: Any) -> None:
    """Without the setting there is no answer to a preflight, and no header that would let a page read."""
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "GET"}
    assert api.client.options("/v1/jobs", headers=asked).status_code == 405
    assert "access-control-allow-origin" not in api.caller().get("/v1/jobs", headers={"Origin": PAGE}).headers


@pytest.mark.parametrize(
    "site",
    [
        "*",
        "app.example.org",
        f"{PAGE}/",
        f"{PAGE}/x",
        f"{PAGE}:443",
        "https://u@app.example.org",
        "https://App.example.org",
    ],
)
def test_a_site_that_no_browser_names_so_stops_the_start(site: str) -> None:
    """A site is named as browsers name it; `*` is none, as any page could then use a token that it got hold of."""
    with pytest.raises(ValidationError):
        settings(cors_origins=site)
