"""What a route is given of its request by a plain function, without FastAPI's solver of dependencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, Signature, isclass, signature
from typing import Any, get_type_hints

from fastapi import Request
from pydantic import BaseModel

REQUEST = "request"


@dataclass(frozen=True, slots=True)
class OfRequest:
    """In the annotation of a route's parameter: the function that makes its value of the request.

    It is called in the event loop, after the caller is known and before the body is parsed, and must not wait. A
    dependency of FastAPI's says the same. Without them a create takes about a tenth less of the processor within the
    application, with a database that answers at once; over HTTP that is less than what two runs differ by.
    """

    of: Callable[[Request], Any]
    asks: Mapping[str, Any] = field(default_factory=dict)  # parameters of the query that it reads, by their names
    permissions: Sequence[str] = ()  # the caller must have one of them


def given_of(endpoint: Callable[..., Any]) -> Mapping[str, Callable[[Request], Any]]:
    """What an endpoint is to be given, by the names of its parameters."""
    return {name: each.of for name, each in _marks(endpoint).items()}


def permissions_of(endpoint: Callable[..., Any]) -> Sequence[str]:
    """The permissions of which the caller of an endpoint must have one; none: it asks for none."""
    return [name for each in _marks(endpoint).values() for name in each.permissions]


def asked_by_given(endpoint: Callable[..., Any]) -> Mapping[str, Any]:
    """The parameters that these functions read, and that no model of the endpoint's own names."""
    models = [hint for hint in get_type_hints(endpoint).values() if isclass(hint) and issubclass(hint, BaseModel)]
    named = {name for model in models for name in model.model_fields}
    asked = {name: hint for each in _marks(endpoint).values() for name, hint in each.asks.items()}
    return {name: hint for name, hint in asked.items() if name not in named}


def asked_of_framework(endpoint: Callable[..., Any]) -> Signature:
    """An endpoint's signature without what it is given, and with what that reads, and the request."""
    found, given = signature(endpoint), given_of(endpoint)
    others = {
        name: each.replace(kind=Parameter.KEYWORD_ONLY) for name, each in found.parameters.items() if name not in given
    }
    for name, hint in asked_by_given(endpoint).items():
        others[name] = Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=hint)
    others.setdefault(REQUEST, Parameter(REQUEST, Parameter.KEYWORD_ONLY, annotation=Request))
    return found.replace(parameters=list(others.values()))


def _marks(endpoint: Callable[..., Any]) -> Mapping[str, OfRequest]:
    hints = get_type_hints(endpoint, include_extras=True)
    return {
        name: each
        for name, hint in hints.items()
        for each in getattr(hint, "__metadata__", ())
        if isinstance(each, OfRequest)
    }
