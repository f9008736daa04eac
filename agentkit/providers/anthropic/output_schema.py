"""JSON schemas as Anthropic's structured outputs take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_KEPT: Final = ("description", "title")
_FORMATS: Final = frozenset(
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"]
)
_TYPES: Final = frozenset(["object", "array", "string", "integer", "number", "boolean", "null"])


def fitted_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """`schema` with closed objects, and with unsupported keywords as a part of the description.

    The same as ``transform_schema`` of Anthropic's SDK. None: a part of it has no type.
    """
    try:
        return _fit(schema)
    except (ValueError, TypeError, AttributeError):
        return None


def _fit(schema: Mapping[str, Any]) -> dict[str, Any]:
    rest = dict(schema)
    fitted: dict[str, Any] = {}
    if (definitions := rest.pop("$defs", None)) is not None:
        fitted["$defs"] = {name: _fit(each) for name, each in definitions.items()}
    if (reference := rest.pop("$ref", None)) is not None:
        return {**fitted, "$ref": reference}
    kind = rest.pop("type", None)
    variants = {name: rest.pop(name, None) for name in ("anyOf", "oneOf", "allOf")}
    literals = _literals(rest)
    fitted |= literals
    union = next((name for name in variants if isinstance(variants[name], list)), None)
    if literals:
        kind = None
    if union is not None:
        fitted["allOf" if union == "allOf" else "anyOf"] = list(map(_fit, variants[union]))
    elif not literals:
        if kind not in _TYPES:
            raise ValueError(kind)
        fitted["type"] = kind
    for name in _KEPT:
        if (text := rest.pop(name, None)) is not None:
            fitted[name] = text
    fitted |= _of_type(kind, rest)
    if rest:
        extra = "{" + ", ".join(f"{name}: {value}" for name, value in rest.items()) + "}"
        given = fitted.get("description")
        fitted["description"] = extra if given is None else f"{given}\n\n{extra}"
    return fitted


def _literals(rest: dict[str, Any]) -> dict[str, Any]:
    """The values that are allowed, taken out of `rest`."""
    literals: dict[str, Any] = {}
    values = rest.get("enum")
    if isinstance(values, list) and values and all(map(_is_plain, values)):
        literals["enum"] = list(rest.pop("enum"))
    if "const" in rest and _is_plain(rest["const"]):
        literals["const"] = rest.pop("const")
    return literals


def _of_type(kind: Any, rest: dict[str, Any]) -> dict[str, Any]:
    """The supported keywords of a type, taken out of `rest`."""
    fitted: dict[str, Any] = {}
    if kind == "object":
        properties = rest.pop("properties", {})
        fitted["properties"] = {name: _fit(each) for name, each in properties.items()}
        fitted["additionalProperties"] = False
        rest.pop("additionalProperties", None)
        if (required := rest.pop("required", None)) is not None:
            fitted["required"] = list(required)
    elif kind == "string" and (form := rest.pop("format", None)):
        (fitted if form in _FORMATS else rest)["format"] = form
    elif kind == "array":
        if (items := rest.pop("items", None)) is not None:
            fitted["items"] = _fit(items)
        if (least := rest.pop("minItems", None)) is not None:
            (fitted if least in (0, 1) else rest)["minItems"] = least
    return fitted


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)
