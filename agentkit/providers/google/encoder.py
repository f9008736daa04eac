"""Requests as Google's generateContent API takes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

from agentkit.providers.content import Part, parts_of, split_system
from agentkit.providers.json_schema import with_json_instruction, with_response_format
from agentkit.providers.state import Item, StateMemory, pieces_of
from agentkit.providers.transport.base import Body
from agentkit.types import Message, MessageRole, Request, ToolCall, ToolSpec

_RENAMED = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "stop": "stop_sequences",
}
_OLDER_MODELS = ("gemini-1", "gemini-2")
"""Models that answer in JSON or call tools but not both, and need no signatures (as of 2026-11)."""
_NO_SIGNATURE: Final = b"skip_thought_signature_validator"
"""What Google documents in place of the signature of a call that its model did not make."""


def encode(request: Request, *, model: str, parameters: Body, states: StateMemory) -> Body:
    """The arguments of ``generateContent``; `parameters` become a part of its config.

    `states` has the thought signatures of earlier answers: the API requires them back.

    Raises:
        InvalidRequestError: a part of a message, or the response format, is not valid.
    """
    config = parameters
    request = with_response_format(request, config)
    older = model.removeprefix("models/").startswith(_OLDER_MODELS)
    for name, other in _RENAMED.items():
        if name in config:
            config[other] = config.pop(name)
    if isinstance(config.get("stop_sequences"), str):
        config["stop_sequences"] = [config["stop_sequences"]]
    if "tool_choice" in config:
        config["tool_config"] = _tool_choice(config.pop("tool_choice"))
    if request.tools:
        config["tools"] = [{"function_declarations": [_tool(each) for each in request.tools]}]
    response_format = request.response_format
    if response_format is not None:
        if older and request.tools:
            request = with_json_instruction(request)
        else:
            config["response_mime_type"] = "application/json"
            if "schema" in response_format:
                config["response_json_schema"] = dict(response_format["schema"])
    system, messages = split_system(request.conversation)
    if system:
        config["system_instruction"] = system
    no_signature = None if older else _NO_SIGNATURE
    return {
        "model": model,
        "contents": _contents(messages, states, no_signature),
        "config": config,
    }


def _tool_choice(choice: Any) -> Any:
    """``auto``, ``none``, ``required`` or a tool's name in Google's terms."""
    if not isinstance(choice, str):
        return choice
    modes = {"auto": "AUTO", "none": "NONE", "required": "ANY", "any": "ANY"}
    calling: dict[str, Any] = {"mode": modes.get(choice, "ANY")}
    if choice not in modes:
        calling["allowed_function_names"] = [choice]
    return {"function_calling_config": calling}


def _contents(
    messages: Sequence[Message], states: StateMemory, no_signature: bytes | None
) -> list[dict[str, Any]]:
    """User and model turns; neighbouring messages of one role are merged.

    `no_signature` replaces the signature of a call that another model made.
    """
    turns: list[dict[str, Any]] = []
    open_calls: list[ToolCall] = []
    for message in messages:
        if message.role is MessageRole.ASSISTANT:
            role, open_calls = "model", list(message.tool_calls)
            parts = _answer(message, states.items_for(message), no_signature)
        elif message.role is MessageRole.TOOL:
            role, parts = "user", _result(message, open_calls)
        else:
            role, parts = "user", [_part(each) for each in parts_of(message)]
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"].extend(parts)
        elif parts:
            turns.append({"role": role, "parts": parts})
    return turns


def _answer(
    message: Message, items: Sequence[Item], no_signature: bytes | None
) -> list[dict[str, Any]]:
    """The parts of an assistant's message in their order, signed as they came."""
    pieces = pieces_of(message, items)
    if pieces is None:
        parts = [_part(each) for each in parts_of(message)]
        signed = [item for item in items if "call" in item]
        if len(signed) != len(message.tool_calls):
            signed = [{}] * len(message.tool_calls)
        parts += map(_function_call, message.tool_calls, signed)
    else:
        parts = [
            {"text": each.text, **_signature(each.item)}
            if each.call is None
            else _function_call(each.call, each.item)
            for each in pieces
        ]
    # Only the first of parallel calls is signed.
    calls = [each for each in parts if "function_call" in each]
    if calls and no_signature is not None and not any("thought_signature" in p for p in parts):
        calls[0]["thought_signature"] = no_signature
    return parts


def _function_call(call: ToolCall, item: Item) -> dict[str, Any]:
    function = {"id": call.id, "name": call.name, "args": dict(call.arguments)}
    return {"function_call": function, **_signature(item)}


def _signature(item: Item) -> dict[str, bytes]:
    if "signature" not in item:
        return {}
    return {"thought_signature": base64.b64decode(item["signature"])}


def _result(message: Message, open_calls: list[ToolCall]) -> list[dict[str, Any]]:
    """A tool's result under its call's name; an unknown id answers the next open call."""
    call = next((each for each in open_calls if each.id == message.tool_call_id), None)
    if call is None and open_calls:
        call = open_calls[0]
    if call is not None:
        open_calls.remove(call)
    result: dict[str, Any] = {
        "name": call.name if call else message.tool_call_id or "tool",
        "response": _as_object(message.text),
    }
    call_id = call.id if call else message.tool_call_id
    if call_id:
        result["id"] = call_id
    media = [_part(each) for each in parts_of(message) if each["type"] != "text"]
    return [{"function_response": result}, *media]


def _as_object(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if isinstance(value, dict):
            return value
    return {"output": text}


def _part(part: Part) -> dict[str, Any]:
    if part["type"] == "text":
        return {"text": part["text"]}
    if "url" in part:
        return {"file_data": {"file_uri": part["url"], "mime_type": part["media_type"]}}
    return {"inline_data": {"data": part["data"], "mime_type": part["media_type"]}}


def _tool(spec: ToolSpec) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": spec.name, "parameters_json_schema": dict(spec.parameters)}
    if spec.description:
        tool["description"] = spec.description
    return tool
