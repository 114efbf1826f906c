"""What people would see of a job is no secret: a handler that takes one is refused when it is registered."""

from __future__ import annotations

import dataclasses
from typing import Any

import pydantic
import pytest

from tasks import BaseModel
from tasks.app import JobApp
from tracking.errors import ConfigurationError


class Secretive(BaseModel):
    """A payload with a secret."""

    password: pydantic.SecretStr


class Nested(BaseModel):
    """A payload with a part that has a secret."""

    parts: tuple[Secretive | None, ...] = ()


@dataclasses.dataclass
class Account:
    """What is no model, and has a secret."""

    user: str
    password: pydantic.SecretStr


class WithAccounts(BaseModel):
    """A payload with parts that are no models."""

    accounts: dict[str, Account]


class Marked(BaseModel):
    """A payload whose schema says that a field is never shown."""

    api_key: str = pydantic.Field(json_schema_extra={"writeOnly": True})


class Speaking(BaseModel):
    """A payload that only has the word for such a mark."""

    words: dict[str, bool] = pydantic.Field({"writeOnly": True}, examples=[{"writeOnly": True}])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Secretive, "Secretive.password is a secret"),
        (Nested, "Secretive.password is a secret"),
        (WithAccounts, "WithAccounts holds 'password', which is a secret"),
        (Marked, "Marked holds 'apiKey', which is a secret"),
    ],
)
@pytest.mark.parametrize("public", [True, False])
def test_a_payload_with_a_secret_is_refused_at_registration(
    app: JobApp, model: Any, reason: str, *, public: bool
) -> None:
    """A payload with a secret at any depth is refused at registration, since everybody who sees a job would see it."""

    def handle(payload: Any) -> None: ...

    handle.__annotations__["payload"] = model
    with pytest.raises(ConfigurationError, match=reason):
        app.task(pydantic=True, name="handle", public=public)(handle)
    assert "handle" not in app.tasks


@pytest.mark.parametrize("secret", [pydantic.SecretStr, pydantic.Secret[int], list[pydantic.SecretBytes], Account])
def test_a_parameter_that_is_a_secret_is_refused_at_registration(app: JobApp, secret: Any) -> None:
    """What is offered over HTTP has no argument that is a secret, since everybody who sees a job would see it."""

    def pay(amount: int, account: Any) -> None: ...

    pay.__annotations__["account"] = secret
    with pytest.raises(ConfigurationError, match="is a secret"):
        app.task(name="pay", public=True)(pay)
    assert "pay" not in app.tasks


def test_a_value_with_the_word_is_no_mark_of_a_secret(app: JobApp) -> None:
    """Only a schema marks a field as secret; a default that has the word is a value."""

    @app.task(pydantic=True, name="speak", public=True)
    def speak(payload: Speaking) -> None: ...

    assert "speak" in app.tasks
