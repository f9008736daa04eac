"""A request in the words of Anthropic's messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from agentkit.providers.call_memory import Recall
from agentkit.providers.content import Part, base64_of, count, parts_of
from agentkit.providers.json_schema import with_json_instruction
from agentkit.providers.registry import PROVIDERS
from agentkit.types import Message, MessageRole, Request, ToolCall, ToolSpec

ANSWER_TOOL: Final = "answer_as_json"
"""The tool that older models are made to call, so that its arguments are the answer."""

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_OLDER = (
    "claude-2", "claude-3", "claude-instant", "claude-opus-4-0", "claude-opus-4-2025",
    "claude-sonnet-4-0", "claude-sonnet-4-2025",
)  # fmt: skip
"""Models without structured outputs (as of 2026-11)."""
_PREFILLED = (
    *_OLDER, "claude-opus-4-1", "claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5",
)  # fmt: skip
"""Models that go on from the beginning of an answer; later ones refuse it (as of 2026-11)."""
_SMALL = {"claude-2": 4096, "claude-3-opus": 4096, "claude-3-haiku": 4096, "claude-3": 8192}
_USUAL: Final = PROVIDERS["anthropic"].max_tokens or 8192


class Wish(NamedTuple):
    """How a model is brought to answer in JSON: options, or words where there are none."""

    options: dict[str, Any]
    words: bool = False


def takes_prefill(model: str) -> bool:
    """Whether the model goes on from an assistant's message at the end."""
    return model.startswith(_PREFILLED)


def max_tokens_of(model: str, thinking: Any = None) -> int:
    """The most tokens asked for where nobody says: by model family, plus what it may think."""
    usual = next((most for prefix, most in _SMALL.items() if model.startswith(prefix)), _USUAL)
    budget = thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None
    return usual + count(budget)


def output_format(model: str, request: Request) -> Wish:
    """Structured outputs where the model has them and the schema fits, else a forced tool."""
    wish = request.response_format
    if wish is None:
        return Wish({})
    schema = wish.get("schema")
    if schema is None:
        return Wish({}, words=True)
    if not model.startswith(_OLDER) and not _is_open(schema):
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
    messages = with_json_instruction(request).conversation if words else request.conversation
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


def encoded_messages(
    messages: Sequence[Message], thoughts: Recall[list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """User and assistant turns in turn; neighbours of one role are merged.

    `thoughts` holds the blocks that came before calls of tools: the API wants them back.
    """
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role is MessageRole.SYSTEM:
            continue
        role = "assistant" if message.role is MessageRole.ASSISTANT else "user"
        blocks = _blocks(message, thoughts)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if turns and turns[-1]["role"] == "assistant":
        _without_blanks_at_the_end(turns[-1]["content"])
    for turn in turns:
        only = turn["content"][0]
        if len(turn["content"]) == 1 and set(only) == {"type", "text"}:
            turn["content"] = only["text"]
    return turns


def _without_blanks_at_the_end(blocks: list[dict[str, Any]]) -> None:
    """The API refuses a prefilled answer that ends in blanks."""
    if blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip() or "."


def _blocks(message: Message, thoughts: Recall[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    if message.role is MessageRole.TOOL:
        content: Any = message.content
        if not isinstance(content, str):
            content = [_part(part) for part in _with_marks(message)]
        tool_use_id = call_id(message.tool_call_id or "")
        return [{"type": "tool_result", "tool_use_id": tool_use_id, "content": content}]
    blocks = [_part(part) for part in _with_marks(message) if part.get("text") != ""]
    calls = [_call(call) for call in message.tool_calls]
    before = thoughts.of(message.tool_calls[0].id) if calls else None
    return [*(before or ()), *blocks, *calls]


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
    source = _source(part)
    if part["type"] == "image":
        return {"type": "image", "source": source, **mark}
    return {"type": "document", "source": source, "title": part["name"], **mark}


def _source(part: Part) -> dict[str, Any]:
    if "url" in part:
        return {"type": "url", "url": part["url"]}
    if part["type"] == "document" and part["media_type"].startswith("text/"):
        text = part["data"].decode("utf-8", errors="replace")
        return {"type": "text", "media_type": "text/plain", "data": text}
    return {"type": "base64", "media_type": part["media_type"], "data": base64_of(part)}


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": call_id(call.id),
        "name": call.name,
        "input": dict(call.arguments),
    }


def call_id(given: str) -> str:
    """An id as Anthropic takes it: itself where it fits, else one made of it, always the same."""
    return given if _ID.fullmatch(given) else f"call_{sha256(given.encode()).hexdigest()[:32]}"
