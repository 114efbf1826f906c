"""What a handler's signature says: whether it takes one payload or arguments of its own, and of which types."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pydantic

from tasks.encoding import to_plain
from tracking.errors import ConfigurationError, InvalidValue

REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Signature:
    """The parameters of a handler, without `self`."""

    handler: Callable[..., Any]
    is_bound: bool

    @cached_property
    def parameters(self) -> list[inspect.Parameter]:
        found = list(inspect.signature(self.handler).parameters.values())
        return found[1:] if self.is_bound else found

    @cached_property
    def sole(self) -> str | None:
        """The name of the only parameter, when it can be given by position and by name."""
        kinds = [parameter.kind for parameter in self.parameters]
        return self.parameters[0].name if kinds == [inspect.Parameter.POSITIONAL_OR_KEYWORD] else None

    @cached_property
    def payload_model(self) -> type[pydantic.BaseModel] | None:
        """The pydantic model of the only parameter; None for every other signature."""
        annotation = self._type(self.parameters[0]) if self.sole is not None else None
        is_model = inspect.isclass(annotation) and issubclass(annotation, pydantic.BaseModel)
        return annotation if is_model else None

    @property
    def takes_object(self) -> bool:
        """Whether the payload as a whole is the only argument, instead of one argument for each of its members."""
        if self.payload_model is not None:
            return True
        if self.sole is None:
            return False
        annotation = self._type(self.parameters[0])
        is_object = inspect.isclass(typing.get_origin(annotation) or annotation) and issubclass(
            typing.get_origin(annotation) or annotation, Mapping
        )
        return is_object or typing.is_typeddict(annotation) or self.sole == "payload"

    @cached_property
    def takes_payload(self) -> bool:
        """Whether the handler cannot be called without an argument."""
        return any(each.default is each.empty and each.kind not in REST for each in self.parameters)

    @cached_property
    def arguments_model(self) -> type[pydantic.BaseModel]:
        """A model with a field for each parameter that can be given by name.

        Raises ConfigurationError when the handler cannot be called with named arguments alone.
        """
        fields: dict[str, Any] = {}
        extra: typing.Literal["allow", "forbid"] = "forbid"
        for number, parameter in enumerate(self.parameters):
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                extra = "allow"
            elif parameter.kind in BY_NAME:
                default = ... if parameter.default is parameter.empty else parameter.default
                annotation = self._type(parameter)
                fields[f"field_{number}"] = (annotation, pydantic.Field(default, alias=parameter.name))
            elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
                raise ConfigurationError(f"its parameter {parameter.name!r} cannot be given by name")
        config = pydantic.ConfigDict(extra=extra, hide_input_in_errors=True, arbitrary_types_allowed=True)
        name = getattr(self.handler, "__name__", "Arguments")
        return pydantic.create_model(name, __config__=config, **fields)

    def arguments(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The named arguments that a payload from outside stands for. Raises pydantic.ValidationError.

        JSON lacks some types: a text that is a date, say, for a parameter that is one, arrives as a date.
        """
        text = json.dumps(dict(payload))
        valid = self.arguments_model.model_validate_json(text, strict=True)
        given = {
            field.alias: getattr(valid, name)
            for name, field in type(valid).model_fields.items()
            if name in valid.model_fields_set
        }
        return {name: _typed(given[name], sent) if name in given else sent for name, sent in payload.items()}

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of what a payload from outside may be; it is the caller's own, to be changed."""
        schema: dict[str, Any] = json.loads(self._schema)
        return schema

    def described(self) -> dict[str, Any]:
        """The JSON Schema of the model of the payload, or else of the arguments; not to be changed."""
        return self._described

    @cached_property
    def _schema(self) -> str:
        is_any_object = self.takes_object and self.payload_model is None
        return json.dumps({"type": "object"} if is_any_object else self._described)

    @cached_property
    def _described(self) -> dict[str, Any]:
        # Made once: it takes milliseconds, each start asks for it, and pages of the dashboard for those of all types.
        return (self.payload_model or self.arguments_model).model_json_schema()

    def _type(self, parameter: inspect.Parameter) -> Any:
        return Any if parameter.annotation is parameter.empty else self._hints.get(parameter.name, Any)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return resolved_hints(self.handler)[0]


def resolve_annotations(function: Any, name: str, *, needs_all: bool) -> None:
    """Write the types that annotations name in their place, for readers that want all of them resolved.

    With `needs_all` the parameters' types decide what the function is called with. Raises ConfigurationError when one
    of them cannot be known.
    """
    hints, unknown = resolved_hints(function)
    for parameter, reason in unknown.items():
        if needs_all and parameter != "return":
            raise ConfigurationError(
                f"the task {name!r} cannot be served: the type of its parameter {parameter!r} is not known when the"
                f" program runs ({reason}); import it outside of `if TYPE_CHECKING`"
            )
    if unknown:
        function.__annotations__ = {**dict.fromkeys(unknown, Any), **hints}


def resolved_hints(function: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The types of a function's annotations, and those that cannot be known here, each with the reason.

    A name that is imported for type checkers only is unknown when the program runs.
    """
    try:
        return typing.get_type_hints(function, include_extras=True), {}
    except Exception:  # noqa: BLE001 - an annotation is any expression
        hints, unknown = {}, {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        one = _Annotated(getattr(function, "__globals__", {}), {name: annotation})
        try:
            hints[name] = typing.get_type_hints(one, one.globals, include_extras=True)[name]
        except Exception as error:  # noqa: BLE001 - as above
            unknown[name] = f"{annotation}: {error}"
    return hints, unknown


class _Annotated:
    """One annotation of a function, as typing wants to see it."""

    def __init__(self, names: dict[str, Any], annotations: dict[str, Any]) -> None:
        self.globals = names
        self.__annotations__ = annotations


def _typed(value: Any, sent: Any) -> Any:
    if isinstance(value, pydantic.BaseModel) or value == sent:
        return sent
    try:
        to_plain(value)
    except InvalidValue:
        return sent
    return value
