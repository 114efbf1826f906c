"""The base of payloads and results."""

from __future__ import annotations

import pydantic
from pydantic.alias_generators import to_camel


class BaseModel(pydantic.BaseModel):
    """A pydantic model that reads and writes camelCase JSON and refuses fields that it does not know.

    Python code may use the snake_case names. Its errors do not quote the input: they end up in logs.
    """

    model_config = pydantic.ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )
