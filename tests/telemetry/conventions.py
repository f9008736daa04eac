"""What the GenAI conventions demand of captured content, as JSON schemas.

From the schemas of the conventions' own repository, in the stricter form of 1.41: an output message
needs a finish reason. Backends drop a list in which one item does not match.
"""

from __future__ import annotations

from typing import Any, Final

TEXT: Final = {"type": "string"}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
    }


def _part(kind: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> Any:
    return _object({"type": {"const": kind}, **required}, optional)


_KNOWN: Final = [
    _part("text", {"content": TEXT}),
    _part("reasoning", {"content": TEXT}),
    _part("tool_call", {"name": TEXT}, {"id": {"type": ["string", "null"]}}),
    _part("tool_call_response", {"response": {}}, {"id": {"type": ["string", "null"]}}),
]
PART: Final = {
    "anyOf": [
        *_KNOWN,
        _object(
            {"type": {"not": {"enum": [each["properties"]["type"]["const"] for each in _KNOWN]}}}
        ),
    ]
}
"""A part of a kind that we write has its fields; another kind only has to have a name."""
_MESSAGE: Final[dict[str, Any]] = {"role": TEXT, "parts": {"type": "array", "items": PART}}

INPUT_MESSAGES: Final = {"type": "array", "items": _object(_MESSAGE)}
OUTPUT_MESSAGES: Final = {
    "type": "array",
    "items": _object({**_MESSAGE, "finish_reason": {"type": "string", "minLength": 1}}),
}
TOOL_DEFINITIONS: Final = {
    "type": "array",
    "items": _object(
        {"type": {"const": "function"}, "name": TEXT},
        {
            "description": {"type": ["string", "null"]},
            "parameters": {"$ref": "http://json-schema.org/draft-07/schema#"},
        },
    ),
}

SCHEMAS: Final[dict[str, Any]] = {
    "gen_ai.input.messages": INPUT_MESSAGES,
    "gen_ai.output.messages": OUTPUT_MESSAGES,
    "gen_ai.tool.definitions": TOOL_DEFINITIONS,
}
