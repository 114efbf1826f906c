"""The settings of signing in with an OpenID Connect provider: a part of those of settings.py."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from tracking.page_settings import PageSettings
from tracking.urls import check_web

Grants = tuple[tuple[str, tuple[str, ...]], ...]


class OidcSettings(PageSettings):
    """`CELERIAC_OIDC_*`: who the provider is, and what its claims mean here."""

    oidc_issuer: str = Field(
        default="", description="The issuer of an OpenID Connect provider, for the dashboard. Empty: there is none."
    )
    oidc_client_id: str = Field(default="", description="What the provider knows this platform as.")
    oidc_client_secret: SecretStr = Field(
        default=SecretStr(""), description="Its secret there. Empty: a public client, which has PKCE alone."
    )
    oidc_scopes: str = Field(default="openid profile email", description="What is asked for, with spaces between.")
    oidc_user_claim: str = Field(default="sub", description="The claim that is the user; dots lead into objects.")
    oidc_organization_claim: str = Field(default="org", description="The claim that is the organization.")
    oidc_organization: str = Field(default="", description="The organization of everybody, instead of a claim.")
    oidc_permissions_claim: str = Field(
        default="permissions",
        description="The claim with permissions, or with the names that CELERIAC_OIDC_GRANTS has.",
    )
    oidc_grants: Annotated[Grants, NoDecode] = Field(
        default=(),
        description="What names in that claim grant, `ops=jobs.view_jobs jobs.view_all, ...`; others grant nothing.",
    )

    @field_validator("oidc_issuer")
    @classmethod
    def check_issuer(cls, value: str) -> str:
        """Empty, or an address on the web, whose configuration is fetched."""
        return check_web(value) if value else value

    @field_validator("oidc_client_id")
    @classmethod
    def require_client(cls, value: str, info: ValidationInfo) -> str:
        """A provider answers no client that has no name."""
        if info.data.get("oidc_issuer") and not value:
            raise ValueError("CELERIAC_OIDC_ISSUER needs it; it is not set")
        return value

    @field_validator("oidc_scopes")
    @classmethod
    def require_openid(cls, value: str) -> str:
        """Without the scope openid a provider sends no ID token."""
        if "openid" not in value.split():
            raise ValueError("it has to have openid among its scopes")
        return value

    @field_validator("oidc_grants", mode="before")
    @classmethod
    def split_into_grants(cls, value: object) -> object:
        """`a=x y, b=x` → (("a", ("x", "y")), ("b", ("x",)))."""
        if not isinstance(value, str):
            return value
        found = []
        for part in (each.strip() for each in value.split(",") if each.strip()):
            name, has_any, permissions = part.partition("=")
            if not (name.strip() and has_any and permissions.split()):
                raise ValueError("it is not like ops=jobs.view_jobs jobs.view_all, viewers=jobs.view_jobs")
            found.append((name.strip(), tuple(permissions.split())))
        return tuple(found)
