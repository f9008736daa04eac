"""The JSON schema of a type: how a response is requested in it, and read from it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentkit.errors import ConfigurationError
from agentkit.output.json_text import NOT_JSON

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class JSONSchema:
    """A JSON schema in place of a type: any JSON object is accepted, and not validated."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The schema of a type, and the adapters that validate JSON into it.

    Providers accept only objects at the top of a schema. Any other type is requested as
    ``{"value": …}``, and read with or without that object around it. Without it, an object must
    have a name that the type knows: a type that ignores unknown names and has a default for each
    of its own would otherwise accept every object, an invalid ``{"value": …}`` included.
    """

    type: Any
    adapter: TypeAdapter[Any]
    wrapper: TypeAdapter[Any] | None
    """Of the object around the value, or None."""
    schema: Mapping[str, Any]
    names: frozenset[str] | None = None
    """The names that an object without the object around it may have; None: any."""

    def validate(self, text: str) -> Any:
        """The instance in the JSON `text`. Raises pydantic's `ValidationError`."""
        if self.wrapper is None:
            return self.adapter.validate_json(text)
        from pydantic import ValidationError

        try:
            return self.wrapper.validate_json(text).value
        except ValidationError as error:
            is_object = text.lstrip().startswith("{")
            if is_object and not self._may_be_bare(text):
                raise
            try:
                return self.adapter.validate_json(text)
            except ValidationError as other:
                raise (error if is_object else other) from None

    def _may_be_bare(self, text: str) -> bool:
        """Whether the object in `text` has a name that the type knows."""
        from pydantic_core import from_json

        try:
            return self.names is None or not self.names.isdisjoint(from_json(text))
        except NOT_JSON:
            return False


def schema_of(response_model: Any) -> OutputSchema:
    """The schema of a type that pydantic can validate, or of a `JSONSchema`.

    Raises:
        ConfigurationError: pydantic cannot create a JSON schema for the type.
    """
    try:
        if isinstance(response_model, type):
            return _schema_of_class(response_model)
        return _schema_of(response_model)
    except Exception as error:
        raise ConfigurationError(
            f"response_model {response_model!r} has no JSON schema: {type(error).__name__}",
            hint="use a pydantic model, a dataclass, a TypedDict or a builtin type",
        ) from error


def schema_name(response_model: Any, taken: frozenset[str]) -> str:
    """A name for the schema that every provider accepts and that is not in `taken`."""
    own = getattr(
        response_model, "name" if isinstance(response_model, JSONSchema) else "__name__", ""
    )
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", own).strip("_")[:48] or "answer"
    while name in taken:
        name += "_"
    return name


def _schema_of(response_model: Any) -> OutputSchema:
    from pydantic import ConfigDict, TypeAdapter, create_model

    if isinstance(response_model, JSONSchema):
        any_object: TypeAdapter[Any] = TypeAdapter(dict[str, Any])
        return OutputSchema(dict, any_object, None, response_model.schema)
    adapter: TypeAdapter[Any] = TypeAdapter(response_model)
    schema = _without_reference(adapter.json_schema())
    if schema.get("type") == "object":
        return OutputSchema(response_model, adapter, None, schema)
    forbid = ConfigDict(extra="forbid")  # or another object with a `value` would be unwrapped
    model = create_model("Answer", __config__=forbid, value=(response_model, ...))
    known = set(_names_in(schema, schema.get("$defs", {}), set()))
    return OutputSchema(
        response_model,
        adapter,
        TypeAdapter(model),
        model.model_json_schema(),
        names=None if None in known else frozenset(filter(None, known)),
    )


def _names_in(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], seen: set[str]
) -> Iterator[str | None]:
    """The names of the objects that match `schema`; None among them where any name may occur."""
    reference = schema.get("$ref")
    if reference is not None:
        name = reference.rpartition("/")[2]
        if name not in seen:
            yield from _names_in(definitions.get(name, {}), definitions, seen | {name})
        return
    members = [each for kind in ("anyOf", "oneOf", "allOf") for each in schema.get(kind, ())]
    for member in members:
        yield from _names_in(member, definitions, seen)
    if members or "enum" in schema or "const" in schema:
        return
    if schema.get("type", "object") != "object":
        return
    yield from schema.get("properties", ())
    if schema.get("additionalProperties") or "properties" not in schema:
        yield None


_schema_of_class = functools.lru_cache(maxsize=128)(_schema_of)
"""Only for classes: ``int | str`` equals ``str | int``, but they validate differently."""


def _without_reference(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a recursive model with the model itself at the top, not a reference to it."""
    prefix, _, name = schema.get("$ref", "").rpartition("/")
    if prefix != "#/$defs":
        return schema
    return {**schema["$defs"][name], "$defs": schema["$defs"]}
