"""Signing in at the dashboard with an OpenID Connect provider: the code flow with PKCE, its claims as rights here."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jwt
import structlog
from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]  # it has no types
from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]  # as above
from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]  # as above
from joserfc.errors import JoseError
from pydantic import TypeAdapter, ValidationError

from api.auth import LEEWAY, Whose
from api.keys import KeysUnavailable, PublicKeySet
from tasks.authorities import Authorities
from tracking.settings import Settings
from tracking.tickets import Rights

PATIENCE = 10.0  # seconds for each answer of the provider
LIFESPAN = 3600.0  # seconds that its configuration is used
UNDER_WAY = 600  # seconds that somebody may take at the provider
ALGORITHMS = ["RS256", "ES256"]  # as for tokens
CONFIGURATION = "/.well-known/openid-configuration"

log = structlog.get_logger(__name__)


class SignInFailed(Exception):
    """Nobody is signed in: why, for the person who tried. `is_away`: the provider is at fault, for now."""

    def __init__(self, why: str, *, is_away: bool = False) -> None:
        super().__init__(why)
        self.is_away = is_away


@dataclass(frozen=True, slots=True)
class Begun:
    """What the browser keeps while somebody is at the provider: nobody else's answer is taken for theirs."""

    state: str
    nonce: str
    verifier: str
    next: str
    until: float

    def packed(self) -> str:
        """As the value of a cookie."""
        return base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode()

    @classmethod
    def unpacked(cls, cookie: str) -> Begun | None:
        """What `packed` made; None: it is something else, or too old."""
        try:
            begun = TypeAdapter(cls).validate_json(base64.urlsafe_b64decode(cookie), strict=True)
        except ValueError:
            return None
        return begun if time.time() < begun.until else None


class Provider:
    """The OpenID Connect provider of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._found: dict[str, Any] = {}
        self._found_at = float("-inf")
        self._keys: dict[str, PublicKeySet] = {}

    @property
    def name(self) -> str:
        """What people know it as: its host."""
        return urlsplit(self._settings.oidc_issuer).netloc

    async def begin(self, redirect_uri: str, back: str) -> tuple[str, Begun]:
        """Where the browser has to go, and what it has to keep meanwhile. Raises SignInFailed."""
        begun = Begun(_secret(), _secret(), _secret(), back, time.time() + UNDER_WAY)
        endpoint = await self._endpoint("authorization_endpoint")
        async with self._client(redirect_uri) as client:
            address, _ = client.create_authorization_url(
                endpoint, state=begun.state, nonce=begun.nonce, code_verifier=begun.verifier
            )
        return str(address), begun

    async def finish(self, begun: Begun, given: Mapping[str, str], redirect_uri: str) -> Rights:
        """The rights of who comes back from it. Raises SignInFailed."""
        if not secrets.compare_digest(given.get("state", "").encode(), begun.state.encode()):
            raise SignInFailed("The answer belongs to another sign-in. Begin again.")
        if given.get("iss", self._settings.oidc_issuer) != self._settings.oidc_issuer:  # RFC 9207
            raise SignInFailed("The answer is of another provider.")
        if "error" in given:
            raise SignInFailed(f"{self.name} says no: {given.get('error_description') or given['error']}"[:300])
        endpoint = await self._endpoint("token_endpoint")
        try:
            async with self._client(redirect_uri) as client:
                answer = await client.fetch_token(endpoint, code=given.get("code"), code_verifier=begun.verifier)
        except AuthlibBaseError as error:
            raise SignInFailed(f"{self.name} does not take the code: {error.error}") from error
        except (httpx2.HTTPError, ValueError) as error:
            raise self._away(error) from error
        return self.rights(await self._claims(answer, begun))

    def rights(self, claims: Mapping[str, Any]) -> Rights:
        """What these claims come to by the settings. Raises SignInFailed when they name nobody."""
        settings = self._settings
        organization = settings.oidc_organization or _found(claims, settings.oidc_organization_claim)
        user = _found(claims, settings.oidc_user_claim)
        try:
            whose = Whose.model_validate({"sub": user, "org": organization})
        except ValidationError as error:
            places = {"sub": settings.oidc_user_claim, "org": settings.oidc_organization_claim}
            name = places[str(error.errors()[0]["loc"][0])]
            raise SignInFailed(f"{self.name} says no {name} of you that can be one here.") from error
        permissions = self._granted(_found(claims, settings.oidc_permissions_claim))
        return Rights(whose.org, whose.sub, permissions, None, issued_at=datetime.fromtimestamp(claims["iat"], UTC))

    def _client(self, redirect_uri: str) -> AsyncOAuth2Client:
        settings, secret = self._settings, self._settings.oidc_client_secret.get_secret_value()
        return AsyncOAuth2Client(
            settings.oidc_client_id,
            secret or None,
            token_endpoint_auth_method="client_secret_basic" if secret else "none",
            scope=settings.oidc_scopes,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=PATIENCE,
        )

    async def _endpoint(self, name: str) -> str:
        found = (await self._configuration()).get(name)
        if not isinstance(found, str):
            raise SignInFailed(f"{self.name} names no {name}.", is_away=True)
        return found

    async def _configuration(self) -> Mapping[str, Any]:
        if time.monotonic() - self._found_at < LIFESPAN:
            return self._found
        issuer = self._settings.oidc_issuer
        try:
            async with httpx2.AsyncClient(timeout=PATIENCE, verify=Authorities()) as client:
                answer = (await client.get(issuer.rstrip("/") + CONFIGURATION)).raise_for_status()
                found = answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise self._away(error) from error
        if not isinstance(found, dict) or found.get("issuer") != issuer:  # OpenID Connect Discovery §4.3
            raise SignInFailed(f"{self.name} calls itself something else than CELERIAC_OIDC_ISSUER.", is_away=True)
        self._found, self._found_at = found, time.monotonic()
        return found

    async def _claims(self, answer: Mapping[str, Any], begun: Begun) -> Mapping[str, Any]:
        """What the ID token says, once its signature and all that binds it to this sign-in are right."""
        token, address = answer.get("id_token"), await self._endpoint("jwks_uri")
        if not isinstance(token, str):
            raise SignInFailed(f"{self.name} sends no ID token.")
        issuer, client_id = self._settings.oidc_issuer, self._settings.oidc_client_id
        try:
            header = jwt.get_unverified_header(token)
            key = await self._keys.setdefault(address, PublicKeySet(address)).find(str(header.get("kid")))
            if key is None:
                raise SignInFailed("No known key has signed the ID token.")
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=ALGORITHMS, audience=client_id, issuer=issuer, leeway=LEEWAY
            )
            bound = {"nonce": begun.nonce, "client_id": client_id, "access_token": answer.get("access_token")}
            CodeIDToken(claims, header, {"nonce": {"essential": True}}, bound).validate(leeway=LEEWAY)
        except KeysUnavailable as error:
            raise self._away(error) from error
        except (jwt.PyJWTError, JoseError) as error:
            log.warning("oidc.refused", issuer=issuer, error=type(error).__name__, reason=str(error)[:200])
            raise SignInFailed("The ID token is not right: the log says why.") from error
        return claims

    def _granted(self, said: Any) -> frozenset[str]:
        """The permissions that a claim comes to: a list, or a text with spaces; what is unknown grants nothing."""
        words = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        names = {each for each in words if isinstance(each, str)}
        grants = dict(self._settings.oidc_grants)
        return frozenset(each for name in names for each in grants.get(name, ())) if grants else frozenset(names)

    def _away(self, error: Exception) -> SignInFailed:
        reason = f"{type(error).__name__}: {error}"[:200]
        log.warning("oidc.unavailable", issuer=self._settings.oidc_issuer, reason=reason)
        return SignInFailed(f"{self.name} cannot be asked now. Try again in a moment.", is_away=True)


def _secret() -> str:
    return secrets.token_urlsafe(32)


def _found(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of this name, or what dots lead to within objects; None: there is none."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
