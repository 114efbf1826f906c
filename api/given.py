"""What a route is given of its request by a plain function, without FastAPI's solver of dependencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

from fastapi import Request

REQUEST = "request"


@dataclass(frozen=True, slots=True)
class OfRequest:
    """In the annotation of a route's parameter: the function that makes its value of the request.

    It is called in the event loop, after the caller is known and before the body is parsed, and must not wait. A
    dependency of FastAPI's says the same. Without them a create takes about a tenth less of the processor within the
    application, with a database that answers at once; over HTTP that is less than what two runs differ by.
    """

    of: Callable[[Request], Any]


def given_of(endpoint: Callable[..., Any]) -> Mapping[str, Callable[[Request], Any]]:
    """What an endpoint is to be given, by the names of its parameters."""
    hints = get_type_hints(endpoint, include_extras=True)
    return {
        name: each.of
        for name, hint in hints.items()
        for each in getattr(hint, "__metadata__", ())
        if isinstance(each, OfRequest)
    }


def asked_of_framework(endpoint: Callable[..., Any]) -> Signature:
    """An endpoint's signature without what it is given, and with the request."""
    found, given = signature(endpoint), given_of(endpoint)
    others = {
        name: each.replace(kind=Parameter.KEYWORD_ONLY) for name, each in found.parameters.items() if name not in given
    }
    others.setdefault(REQUEST, Parameter(REQUEST, Parameter.KEYWORD_ONLY, annotation=Request))
    return found.replace(parameters=list(others.values()))
