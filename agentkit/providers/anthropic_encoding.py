"""A request in the words of Anthropic's messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from agentkit.providers.callable import worded
from agentkit.providers.content import Part, base64_of, parts_of
from agentkit.providers.defaults import DEFAULTS
from agentkit.types import Message, MessageRole, Request, ToolCall, ToolSpec

ANSWER_TOOL: Final = "answer_as_json"
"""The tool that older models are made to call, so that its arguments are the answer."""

_ID = re.compile(r"[^a-zA-Z0-9_-]")
_OLDER = (
    "claude-2", "claude-3", "claude-instant", "claude-opus-4-0", "claude-opus-4-2025",
    "claude-sonnet-4-0", "claude-sonnet-4-2025",
)  # fmt: skip
"""Models without structured outputs, which take a prefilled answer instead (as of 2026-11)."""
_SMALL = {"claude-2": 4096, "claude-3-opus": 4096, "claude-3-haiku": 4096, "claude-3": 8192}
_USUAL = 16_384


class Wish(NamedTuple):
    """How a model is brought to answer in JSON: options, or words where there are none."""

    options: dict[str, Any]
    words: bool = False


def of_another_age(model: str) -> bool:
    """Whether the model knows prefilled answers but no structured outputs."""
    return model.startswith(_OLDER)


def max_tokens_of(model: str) -> int:
    """The most tokens asked for where nobody says, by model family."""
    for prefix, most in _SMALL.items():
        if model.startswith(prefix):
            return most
    return DEFAULTS["anthropic"].max_tokens or _USUAL


def output_format(model: str, request: Request) -> Wish:
    """Structured outputs where the model has them and the schema fits, else a forced tool."""
    wish = request.response_format
    if wish is None:
        return Wish({})
    schema = wish.get("schema")
    if schema is None:
        return Wish({}, words=True)
    if not of_another_age(model) and not _is_open(schema):
        from anthropic import transform_schema

        try:
            fitted = transform_schema(dict(schema))
        except (ValueError, TypeError, KeyError):
            fitted = None
        if fitted is not None:
            return Wish({"output_config": {"format": {"type": "json_schema", "schema": fitted}}})
    if request.tools or schema.get("type") != "object":
        return Wish({}, words=True)
    answer = {
        "name": ANSWER_TOOL,
        "description": "Give the answer in this shape.",
        "input_schema": dict(schema),
    }
    return Wish({"tools": [answer], "tool_choice": {"type": "tool", "name": ANSWER_TOOL}})


def _is_open(schema: Any) -> bool:
    """Whether some object of the schema takes any key, which structured outputs cannot."""
    if isinstance(schema, list):
        return any(map(_is_open, schema))
    if not isinstance(schema, Mapping):
        return False
    free = schema.get("type") == "object" and "properties" not in schema
    return free or bool(schema.get("additionalProperties")) or any(map(_is_open, schema.values()))


def system_of(request: Request, words: bool) -> str | list[dict[str, Any]]:
    """The system prompt: the system messages, and the wish for JSON where it is put in words."""
    messages = worded(request).conversation if words else request.conversation
    texts = [each for each in messages if each.role is MessageRole.SYSTEM]
    if all(isinstance(each.content, str) for each in texts):
        return "\n\n".join(each.text for each in texts)
    return [_part(part) for each in texts for part in _with_marks(each)]


def tool(spec: ToolSpec) -> dict[str, Any]:
    """A tool as Anthropic is told of it."""
    told: dict[str, Any] = {"name": spec.name, "input_schema": dict(spec.parameters)}
    if spec.description:
        told["description"] = spec.description
    return told


def tool_choice(wish: Any) -> Any:
    """``auto``, ``none``, ``required`` or a tool's name in Anthropic's words."""
    if not isinstance(wish, str):
        return wish
    known = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
    return {"type": known[wish]} if wish in known else {"type": "tool", "name": wish}


def encoded_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """User and assistant turns in turn; neighbours of one role are merged."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role is MessageRole.SYSTEM:
            continue
        role = "assistant" if message.role is MessageRole.ASSISTANT else "user"
        blocks = _blocks(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        elif blocks:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        only = turn["content"][0]
        if len(turn["content"]) == 1 and set(only) == {"type", "text"}:
            turn["content"] = only["text"]
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role is MessageRole.TOOL:
        content: Any = message.content
        if not isinstance(content, str):
            content = [_part(part) for part in _with_marks(message)]
        tool_use_id = call_id(message.tool_call_id or "")
        return [{"type": "tool_result", "tool_use_id": tool_use_id, "content": content}]
    blocks = [_part(part) for part in _with_marks(message)]
    return [*blocks, *(_call(call) for call in message.tool_calls)]


def _with_marks(message: Message) -> list[Part]:
    """The parts, each with the cache mark that its own dict carries."""
    parts = list(parts_of(message))
    if isinstance(message.content, str):
        return parts
    for part, own in zip(parts, message.content, strict=True):
        if "cache_control" in own:
            part["cache_control"] = own["cache_control"]
    return parts


def _part(part: Part) -> dict[str, Any]:
    mark = {"cache_control": part["cache_control"]} if "cache_control" in part else {}
    if part["type"] == "text":
        return {"type": "text", "text": part["text"], **mark}
    if "url" in part:
        source = {"type": "url", "url": part["url"]}
    else:
        source = {"type": "base64", "media_type": part["media_type"], "data": base64_of(part)}
    if part["type"] == "image":
        return {"type": "image", "source": source, **mark}
    return {"type": "document", "source": source, "title": part["name"], **mark}


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": call_id(call.id),
        "name": call.name,
        "input": dict(call.arguments),
    }


def call_id(given: str) -> str:
    """An id as Anthropic takes it (letters, digits, ``_`` and ``-``), the same for the same."""
    return _ID.sub("_", given)[:64] or "call"
