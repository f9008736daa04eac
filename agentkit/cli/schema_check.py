"""The form of a JSON Schema, checked before a model is asked and paid for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_BY_NAME: Final = ("properties", "patternProperties", "$defs", "definitions")
_SEVERAL: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE: Final = ("items", "additionalProperties", "not", "contains", "propertyNames")
_FORMS: Final[dict[str, tuple[type, str]]] = {
    **dict.fromkeys(_BY_NAME, (dict, "an object")),
    **dict.fromkeys((*_SEVERAL, "required", "enum"), (list, "a list")),
}


def flaw_of_schema(schema: Any, place: str = "it") -> str | None:
    """What is wrong with `schema`, in words; None if its form is that of JSON Schema.

    Only keywords that structured outputs use are looked at; unknown ones are allowed.
    """
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict):
        return f"{place} is neither an object nor true or false"
    for keyword, (kind, form) in _FORMS.items():
        if not isinstance(schema.get(keyword, kind()), kind):
            return f"`{keyword}` of {place} is not {form}"
    kinds = schema.get("type", [])
    for name in kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(name, str) or name not in _TYPES:
            return f"{place} has the unknown type {name!r}"
    if not all(isinstance(name, str) for name in schema.get("required", [])):
        return f"`required` of {place} has what is not a name"
    flaws = (flaw_of_schema(inner, where) for inner, where in _inner(schema, place))
    return next((flaw for flaw in flaws if flaw is not None), None)


def _inner(schema: dict[str, Any], place: str) -> Iterator[tuple[Any, str]]:
    """The schemas in `schema`, and where they are."""
    for keyword in _BY_NAME:
        for name, inner in schema.get(keyword, {}).items():
            yield inner, f"`{name}`"
    for keyword in _SEVERAL:
        for inner in schema.get(keyword, []):
            yield inner, f"`{keyword}` of {place}"
    for keyword in _SINGLE:
        if keyword in schema:
            yield schema[keyword], f"`{keyword}` of {place}"
