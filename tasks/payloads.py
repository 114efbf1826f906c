"""The base of payloads and results, and what of a payload is kept in a row: what was sent, and defaults."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import pydantic
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from tracking.errors import InvalidValue

SECRETS = (pydantic.SecretStr, pydantic.SecretBytes, pydantic.Secret)
NO_PLACE = "is a secret: a row is no place for it, send a name by which the worker finds it"
VALUES = {"const", "default", "enum", "examples"}  # of a schema: what stands there is no schema itself


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


def as_sent(model: pydantic.BaseModel) -> dict[str, Any]:
    """The JSON object that a worker reads as an equal model. Raises InvalidValue when there is none."""
    try:
        sent: dict[str, Any] = model.model_dump(mode="json", by_alias=True)
        arrived = type(model).model_validate(sent)
    except (ValueError, TypeError) as error:  # pydantic's errors are ValueErrors, and a serializer may raise anything
        raise InvalidValue(f"a worker could not read this {type(model).__name__} again: {error}") from None
    if arrived != model:
        raise InvalidValue(
            f"this {type(model).__name__} would be another one in the worker: its validators change what they have"
            " made, or its serializers leave something out; send a dict instead"
        )
    return sent


def completed(model: type[pydantic.BaseModel], sent: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent, with the defaults of what was left out. Raises pydantic.ValidationError.

    Only the worker sees what the validators make of it. A default stays out when the worker would read something else:
    validators and serializers of a model's own do not see defaults, and JSON does not know every type.
    """
    valid = model.model_validate(sent)
    filled: dict[str, Any] = _filled(sent, valid, _dumped(valid))
    return filled


def unsendable(model: type[pydantic.BaseModel], described: Callable[[], dict[str, Any]]) -> str | None:
    """Why no model of this type can be sent as JSON and read again, and be shown; None: nothing is known against it.

    `described` makes its JSON Schema.
    """
    reason = _unsendable(model, set())
    secret = next(_secrets(_schema(described)), None) if reason is None else None
    return reason if secret is None else f"{model.__name__} holds {secret!r}, which {NO_PLACE}"


def _unsendable(model: type[pydantic.BaseModel], seen: set[type]) -> str | None:
    seen.add(model)
    for name, field in model.model_fields.items():
        place = f"{model.__name__}.{field.alias or name}"
        if field.exclude:
            return f"{place} is excluded from what is sent"
        accepted = _accepted(name, field)
        if accepted is not None and (field.serialization_alias or name) not in accepted:
            return f"{place} is sent as {field.serialization_alias!r} and read as {field.validation_alias!r}"
        for each in _classes(field.annotation):
            if issubclass(each, SECRETS):
                return f"{place} {NO_PLACE}"
            if issubclass(each, pydantic.BaseModel) and each not in seen:
                reason = _unsendable(each, seen)
                if reason is not None:
                    return reason
    return None


def _schema(described: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a payload is described by; empty where JSON has no words for it."""
    try:
        return described()
    except pydantic.errors.PydanticUserError:
        return {}


def _secrets(schema: Any, name: str = "") -> Iterator[str]:
    """The properties that a schema says are never shown: pydantic's own secrets are, in classes of any kind."""
    if isinstance(schema, list):
        schema = dict(enumerate(schema))
    if not isinstance(schema, dict):
        return
    if schema.get("writeOnly") is True:
        yield name
    for key, each in schema.items():
        if key in ("properties", "$defs"):
            for inner, part in each.items():
                yield from _secrets(part, inner)
        elif key not in VALUES:
            yield from _secrets(each, name)


def _accepted(name: str, field: FieldInfo) -> set[str] | None:
    """The names by which a field is read; None: too many ways to tell."""
    if field.validation_alias is not None and not isinstance(field.validation_alias, str):
        return None
    return {name, field.validation_alias} if field.validation_alias else {name}


def _classes(annotation: Any) -> Iterator[type]:
    """The classes that an annotation is made of."""
    origin = typing.get_origin(annotation)
    for each in (origin, annotation) if origin else (annotation,):
        if isinstance(each, type) and not isinstance(each, types.GenericAlias):
            yield each
    for argument in typing.get_args(annotation):
        yield from _classes(argument)


def _dumped(model: pydantic.BaseModel) -> dict[str, Any]:
    try:
        return model.model_dump(mode="json", by_alias=True)
    except (ValueError, TypeError):  # a serializer that fails: the worker fills in the defaults
        return {}


def _filled(sent: Any, valid: Any, dumped: Any) -> Any:
    if isinstance(valid, pydantic.BaseModel) and isinstance(sent, Mapping) and isinstance(dumped, Mapping):
        return _filled_model(sent, valid, dumped)
    lists = isinstance(valid, list | tuple) and isinstance(sent, list) and isinstance(dumped, list)
    if lists and len(valid) == len(sent) == len(dumped):
        return [_filled(*each) for each in zip(sent, valid, dumped, strict=True)]
    return sent


def _filled_model(sent: Mapping[str, Any], valid: pydantic.BaseModel, dumped: Mapping[str, Any]) -> dict[str, Any]:
    filled = dict(sent)
    for name, reader in _plain_fields(type(valid)).items():
        alias, value = type(valid).model_fields[name].serialization_alias or name, getattr(valid, name)
        if name not in valid.model_fields_set:
            if alias in dumped and _is_read_as(value, reader, dumped[alias]):
                filled[alias] = dumped[alias]
            continue
        for key in {name, alias} & filled.keys():
            filled[key] = _filled(filled[key], value, dumped.get(alias))
    return filled


def _is_read_as(value: Any, reader: pydantic.TypeAdapter[Any], plain: Any) -> bool:
    try:
        return bool(reader.validate_python(plain) == value)
    except pydantic.ValidationError:
        return False


@cache
def _plain_fields(model: type[pydantic.BaseModel]) -> dict[str, pydantic.TypeAdapter[Any]]:
    """The fields that no function of the model's own reads or writes, and how a worker reads each."""
    own = model.__pydantic_decorators__
    if own.model_validators or own.root_validators or own.model_serializers:
        return {}
    functions: list[Any] = [*own.field_validators.values(), *own.validators.values(), *own.field_serializers.values()]
    touched = {name for function in functions for name in function.info.fields}
    plain = {} if "*" in touched else {name: each for name, each in model.model_fields.items() if name not in touched}
    return {name: _reader(model, field) for name, field in plain.items()}


def _reader(model: type[pydantic.BaseModel], field: FieldInfo) -> pydantic.TypeAdapter[Any]:
    annotated: Any = field.annotation
    for each in field.metadata:
        annotated = typing.Annotated[annotated, each]
    try:
        return pydantic.TypeAdapter(annotated, config=model.model_config)
    except pydantic.PydanticUserError:  # a model has a configuration of its own
        return pydantic.TypeAdapter(annotated)
