"""JSON schemas as providers take them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_STRICT_KEYWORDS = frozenset({
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf",
    "$ref", "$defs", "definitions", "title", "description", "default", "pattern", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems",
    "maxItems", "discriminator", "examples", "deprecated",
})  # fmt: skip
"""What OpenAI's structured outputs document as supported, and what is dropped on the way."""
_DROPPED = ("default", "title", "discriminator", "examples", "deprecated")
_FORMATS = frozenset({
    "date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid",
})  # fmt: skip
_LOOKS_AROUND = re.compile(r"\(\?[=!<]")
"""Lookahead and lookbehind, which strict mode's patterns must not use (nor named groups)."""
_OF_DEFINITION = re.compile(r"#/(\$defs|definitions)/([^/]+)")


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """`schema` as strict mode wants it: every object closed, every property required.

    A property with a default becomes required, which only narrows what the model may send. A
    reference stands alone, and one at the top (a recursive type) is replaced by what it names.
    None: the schema says something that strict mode has no word for (free-form objects, ``allOf``,
    a format of its own, …), or its top is no object.
    """
    top = _named_top(schema)
    if top.get("type") != "object":
        return None
    try:
        strict: dict[str, Any] = _strict(top)
    except ValueError:
        return None
    return strict


def _named_top(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = _OF_DEFINITION.fullmatch(str(schema.get("$ref")))
    if found is None:
        return schema
    definitions = schema.get(found[1]) or {}
    return {**definitions.get(found[2], {}), found[1]: definitions}


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, Mapping):
        return node
    if "$ref" in node and "$defs" not in node and "definitions" not in node:
        return {"$ref": node["$ref"]}
    if not _fits(node):
        raise ValueError
    closed = {name: _within(name, value) for name, value in node.items() if name not in _DROPPED}
    if closed.get("type") == "object":
        if node.get("additionalProperties") or "properties" not in closed:
            raise ValueError
        closed["additionalProperties"] = False
        closed["required"] = list(closed["properties"])
    return closed


def _within(name: str, value: Any) -> Any:
    if name in ("properties", "$defs", "definitions"):
        return {key: _strict(each) for key, each in value.items()}
    return _strict(value) if name in ("items", "anyOf") else value


def _fits(node: Mapping[str, Any]) -> bool:
    """Whether strict mode has a word for all that this part of a schema says by itself."""
    return (
        _STRICT_KEYWORDS.issuperset(node)
        and node.get("format", "date") in _FORMATS
        and not _LOOKS_AROUND.search(str(node.get("pattern", "")))
        and bool({"type", "enum", "const", "anyOf"} & node.keys())
    )
