"""Requests as Anthropic's messages API takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agentkit.providers.anthropic.model_rules import fit_to_model
from agentkit.providers.anthropic.output_schema import fitted_schema
from agentkit.providers.content import EMPTY, Part, base64_of, hashed_id, is_blank, parts_of
from agentkit.providers.json_schema import with_json_instruction, with_response_format
from agentkit.providers.model_table import THINKING_TOKENS, Claude, claude
from agentkit.providers.parameters import Parameters
from agentkit.providers.registry import PROVIDERS
from agentkit.providers.response_fields import token_count
from agentkit.providers.state import StateMemory, blocks_in, pieces_of
from agentkit.providers.transport.base import Body
from agentkit.types import Message, MessageRole, Request, ToolCall, ToolSpec

ANSWER_TOOL: Final = "answer_as_json"
"""The tool that older models are forced to call, so that its arguments are the answer."""

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SMALL_LIMITS = {
    "claude-2": 4096,
    "claude-3-opus": 4096,
    "claude-3-haiku": 4096,
    "claude-3": 8192,
}
_DEFAULT_LIMIT: Final = PROVIDERS["anthropic"].max_tokens or 8192


def encode(
    request: Request,
    *,
    model: str,
    parameters: Parameters,
    states: StateMemory,
    stream: bool,
) -> Body:
    """The body of a request; `parameters` become a part of it.

    `states` has the thinking of earlier answers: the API requires it back, unchanged.

    Raises:
        InvalidRequestError: a part of a message, or the response format, is not valid.
    """
    body = parameters.values
    known = claude(model)
    request = with_response_format(request, body)
    if request.tools:
        body["tools"] = [*body.get("tools", ()), *map(_tool, request.tools)]
    if "tools" not in body:
        parameters.omit("tool_choice", "parallel_tool_calls")
    if "tool_choice" in body:
        body["tool_choice"] = _tool_choice(body["tool_choice"])
    output = _output_options(known, request, body)
    for name, value in (output or {}).items():
        merge = isinstance(value, dict) and isinstance(body.get(name), dict)
        body[name] = {**body[name], **value} if merge else value
    fit_to_model(parameters, known, signed=states.has_latest_thinking(request))
    body.setdefault("max_tokens", _max_tokens(model, body))
    system = _system(with_json_instruction(request) if output is None else request)
    if system:
        body["system"] = system
    body["model"] = model
    body["messages"] = _messages(request.conversation, states)
    if stream:
        body["stream"] = True
    return body


def _max_tokens(model: str, body: Body) -> int:
    """The default limit of the model's family, plus the tokens for its thinking."""
    limits = (limit for prefix, limit in _SMALL_LIMITS.items() if model.startswith(prefix))
    thinking, output = body.get("thinking"), body.get("output_config")
    budget = thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None
    if budget is None and isinstance(output, Mapping):
        budget = THINKING_TOKENS.get(output.get("effort", ""))
    return next(limits, _DEFAULT_LIMIT) + token_count(budget)


def _output_options(known: Claude, request: Request, body: Body) -> dict[str, Any] | None:
    """Options for an answer in JSON; None: only the prompt can ask for it.

    Structured outputs where the model has them and the schema fits, else a forced tool call.
    """
    if request.response_format is None:
        return {}
    schema = request.response_format.get("schema")
    if schema is None:
        return None
    if known.has_structured_outputs and not _is_open(schema):
        fitted = fitted_schema(schema)
        if fitted is not None:
            return {"output_config": {"format": {"type": "json_schema", "schema": fitted}}}
    if "tools" in body or "thinking" in body or schema.get("type") != "object":
        return None  # a model that thinks cannot be forced to call a tool
    answer = {
        "name": ANSWER_TOOL,
        "description": "Give the answer in this shape.",
        "input_schema": dict(schema),
    }
    return {"tools": [answer], "tool_choice": {"type": "tool", "name": ANSWER_TOOL}}


def _is_open(schema: Any) -> bool:
    """Whether an object of the schema allows any key, which structured outputs do not support."""
    if isinstance(schema, list):
        return any(map(_is_open, schema))
    if not isinstance(schema, Mapping):
        return False
    free = schema.get("type") == "object" and "properties" not in schema
    return free or bool(schema.get("additionalProperties")) or any(map(_is_open, schema.values()))


def _system(request: Request) -> str | list[dict[str, Any]]:
    """The system prompt: a string, or blocks where a message has parts."""
    messages = [each for each in request.conversation if each.role is MessageRole.SYSTEM]
    if all(isinstance(each.content, str) for each in messages):
        return "\n\n".join(each.text for each in messages if each.text.strip())
    return [_part(part) for each in messages for part in _marked_parts(each) if not is_blank(part)]


def _tool(spec: ToolSpec) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": spec.name, "input_schema": dict(spec.parameters)}
    if spec.description:
        tool["description"] = spec.description
    return tool


def _tool_choice(choice: Any) -> Any:
    """``auto``, ``none``, ``required`` or a tool's name in Anthropic's terms."""
    if not isinstance(choice, str):
        return choice
    types = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
    return {"type": types[choice]} if choice in types else {"type": "tool", "name": choice}


def _messages(messages: Sequence[Message], states: StateMemory) -> list[dict[str, Any]]:
    """Alternating user and assistant turns; neighbouring messages of one role are merged.

    The API refuses text without a visible character: it is left out.
    """
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role is MessageRole.SYSTEM:
            continue
        role = "assistant" if message.role is MessageRole.ASSISTANT else "user"
        blocks = _blocks(message, states)
        if not blocks and role == "user":
            blocks = [{"type": "text", "text": EMPTY}]
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if turns and turns[-1]["role"] == "assistant":
        _strip_end(turns[-1]["content"])
    for turn in turns:
        only = turn["content"][0]
        if len(turn["content"]) == 1 and set(only) == {"type", "text"}:
            turn["content"] = only["text"]
    return turns


def _strip_end(blocks: list[dict[str, Any]]) -> None:
    """The API refuses a prefilled answer that ends in white space."""
    if blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip() or "."


def _blocks(message: Message, states: StateMemory) -> list[dict[str, Any]]:
    if message.role is MessageRole.TOOL:
        content: Any = message.content
        if not isinstance(content, str):
            content = [_part(part) for part in _marked_parts(message) if not is_blank(part)]
        tool_use_id = valid_id(message.tool_call_id or "")
        return [{"type": "tool_result", "tool_use_id": tool_use_id, "content": content}]
    items = states.items_for(message)
    pieces = pieces_of(message, items)
    if pieces is None:
        blocks = [_part(part) for part in _marked_parts(message) if not is_blank(part)]
        return [*blocks_in(items), *blocks, *map(_tool_use, message.tool_calls)]
    return [
        _tool_use(each.call)
        if each.call is not None
        else dict(each.item["block"])
        if each.text is None
        else {"type": "text", "text": each.text}
        for each in pieces
        if each.text is None or each.text.strip()
    ]


def _marked_parts(message: Message) -> list[Part]:
    """The parts, each with the cache mark of its own dict."""
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


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": valid_id(call.id),
        "name": call.name,
        "input": dict(call.arguments),
    }


def valid_id(call_id: str) -> str:
    """The id of a tool call; one that Anthropic would refuse is replaced by a hash of it."""
    if _ID.fullmatch(call_id):
        return call_id
    return hashed_id(call_id)
