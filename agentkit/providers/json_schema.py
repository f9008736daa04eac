"""A request's ``response_format``: read it, fit its schema, or ask for it in the prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agentkit.errors import InvalidRequestError
from agentkit.types import Message, MessageRole, Request

_DROPPED = frozenset({"default", "title", "discriminator", "examples", "deprecated"})
_STRICT_KEYWORDS = _DROPPED.union(
    ["type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"],
    ["$ref", "$defs", "definitions", "description", "pattern", "format", "minItems", "maxItems"],
    ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
)
"""What OpenAI's structured outputs document as supported, and what is dropped on the way."""
_TIME_FORMATS = ("date-time", "time", "date", "duration")
_FORMATS = frozenset({*_TIME_FORMATS, "email", "hostname", "ipv4", "ipv6", "uuid"})
_LOOKAROUND = re.compile(r"\(\?[=!<]")
"""Lookahead, lookbehind and named groups, which strict mode does not allow in patterns."""
_DEFINITION = re.compile(r"#/(\$defs|definitions)/([^/]+)")


def with_response_format(request: Request, options: dict[str, Any]) -> Request:
    """`request` with the ``response_format`` among its parameters, taken out of `options`.

    Raises:
        InvalidRequestError: it has none of the shapes that `normal_response_format` knows.
    """
    given = options.pop("response_format", None)
    if given is None or request.response_format is not None:
        return request
    return replace(request, response_format=normal_response_format(given))


def normal_response_format(given: Any) -> dict[str, Any] | None:
    """A ``response_format`` in the shape of `Request`; None for plain text.

    Understood are that shape, those of OpenAI's chat completions and responses, Anthropic's (which
    has no name), and pydantic models. A ``strict`` that was given is kept; that of chat completions
    is false by default.

    Raises:
        InvalidRequestError: it has none of these shapes.
    """
    if isinstance(given, type) and hasattr(given, "model_json_schema"):
        return {"type": "json_schema", "name": given.__name__, "schema": given.model_json_schema()}
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object" and len(given) == 1:
        return {"type": kind}
    if kind == "json_schema":
        inner = given.get("json_schema", given)
        if isinstance(inner, Mapping) and isinstance(inner.get("schema"), Mapping):
            normal = {
                "type": kind,
                "name": str(inner.get("name") or "answer"),
                "schema": inner["schema"],
            }
            if inner is not given or inner.get("strict") is not None:
                normal["strict"] = bool(inner.get("strict"))
            if inner.get("description"):
                normal["description"] = inner["description"]
            return normal
    raise InvalidRequestError(
        "response_format is neither a JSON schema nor JSON mode",
        hint='write {"type": "json_schema", "name": ..., "schema": ...}, {"type": "json_object"}, '
        "or a pydantic model",
    )


def with_json_instruction(request: Request) -> Request:
    """`request` with a first message that asks for the JSON of its `response_format`."""
    schema = (request.response_format or {}).get("schema")
    instruction = "Answer with one JSON value only, without any other text"
    if schema is not None:
        instruction += f", that matches this JSON schema:\n{json.dumps(schema, sort_keys=True)}"
    message = Message(MessageRole.SYSTEM, instruction)
    return replace(request, prompt=None, messages=(message, *request.conversation))


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """`schema` as OpenAI's strict mode requires it: objects closed, properties required.

    A property with a default becomes required, which only narrows what the model may send. A
    reference keeps no other keyword, and one at the top (a recursive type) is replaced by what it
    refers to. None: the schema uses something that strict mode does not support (free-form objects,
    ``allOf``, an unknown format, …), or its top is not an object.
    """
    top = _resolved_top(schema)
    if top.get("type") != "object":
        return None
    try:
        strict: dict[str, Any] = _strict(top)
    except ValueError:
        return None
    return strict


def _resolved_top(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = _DEFINITION.fullmatch(str(schema.get("$ref")))
    if reference is None:
        return schema
    definitions = schema.get(reference[1]) or {}
    return {**definitions.get(reference[2], {}), reference[1]: definitions}


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, Mapping):
        return node
    if "$ref" in node and "$defs" not in node and "definitions" not in node:
        return {"$ref": node["$ref"]}
    if not _is_supported(node):
        raise ValueError
    closed = {
        name: _strict_value(name, value) for name, value in node.items() if name not in _DROPPED
    }
    if closed.get("type") == "object":
        if node.get("additionalProperties") or "properties" not in closed:
            raise ValueError
        closed["additionalProperties"] = False
        closed["required"] = list(closed["properties"])
    return closed


def _strict_value(name: str, value: Any) -> Any:
    if name in ("properties", "$defs", "definitions"):
        return {key: _strict(each) for key, each in value.items()}
    return _strict(value) if name in ("items", "anyOf") else value


def _is_supported(node: Mapping[str, Any]) -> bool:
    """Whether strict mode supports every keyword of this part of a schema."""
    return (
        _STRICT_KEYWORDS.issuperset(node)
        and node.get("format", "date") in _FORMATS
        and not _LOOKAROUND.search(str(node.get("pattern", "")))
        and bool({"type", "enum", "const", "anyOf"} & node.keys())
    )
