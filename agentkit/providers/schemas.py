"""JSON schemas as providers take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STRICT_KEYWORDS = frozenset({
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf",
    "$ref", "$defs", "definitions", "title", "description", "default", "pattern", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems",
    "maxItems", "discriminator",
})  # fmt: skip
"""What OpenAI's structured outputs document as supported, and what is dropped on the way."""
_DROPPED = ("default", "title", "discriminator")


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """`schema` as strict mode wants it: every object closed, every property required.

    A property with a default becomes required, which only narrows what the model may send. None:
    the schema says something that strict mode has no word for (free-form objects, ``allOf``, …),
    or its top is no object.
    """
    if schema.get("type") != "object" and "$ref" not in schema:
        return None
    try:
        strict: dict[str, Any] = _strict(schema)
    except ValueError:
        return None
    return strict


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, Mapping):
        return node
    if not _STRICT_KEYWORDS.issuperset(node):
        raise ValueError
    closed = {name: value for name, value in node.items() if name not in _DROPPED}
    for name in ("properties", "$defs", "definitions"):
        if name in closed:
            closed[name] = {key: _strict(each) for key, each in closed[name].items()}
    for name in ("items", "anyOf"):
        if name in closed:
            closed[name] = _strict(closed[name])
    if closed.get("type") == "object":
        if node.get("additionalProperties") or "properties" not in closed:
            raise ValueError
        closed["additionalProperties"] = False
        closed["required"] = list(closed["properties"])
    return closed
