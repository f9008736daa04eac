"""Requests as Google's generateContent API takes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agentkit.providers.content import Part, parts_of, split_system
from agentkit.providers.json_schema import with_json_instruction, with_response_format
from agentkit.providers.model_table import EFFORTS, THINKING_TOKENS, Gemini, gemini
from agentkit.providers.parameters import Parameters
from agentkit.providers.state import Item, StateMemory, pieces_of
from agentkit.providers.transport.base import Body
from agentkit.types import Message, MessageRole, Request, ToolCall, ToolSpec

_SERVICE_TIERS: Final = ("unspecified", "flex", "standard", "priority")
_MOST_THINKING: Final = 24576
"""The largest thinking budget of every model that has one, in tokens."""
_NO_SIGNATURE: Final = b"skip_thought_signature_validator"
"""What Google documents in place of the signature of a call that its model did not make."""


def encode(request: Request, *, model: str, parameters: Parameters, states: StateMemory) -> Body:
    """The arguments of ``generateContent``; `parameters` become a part of its config.

    `states` has the thought signatures of earlier answers: the API requires them back.

    Raises:
        InvalidRequestError: a part of a message, or the response format, is not valid.
    """
    config = parameters.values
    known = gemini(model)
    request = with_response_format(request, config)
    _translate(parameters, known)
    if request.tools:
        own = {"function_declarations": [_tool(each) for each in request.tools]}
        config["tools"] = [*config.get("tools", ()), own]
    if "tools" not in config:
        parameters.omit("tool_choice")
    if "tool_choice" in config:
        config["tool_config"] = _tool_choice(config.pop("tool_choice"))
    response_format = request.response_format
    if response_format is not None:
        if request.tools and not known.takes_json_with_tools:
            request = with_json_instruction(request)
        else:
            config["response_mime_type"] = "application/json"
            if "schema" in response_format:
                config["response_json_schema"] = dict(response_format["schema"])
    system, messages = split_system(request.conversation)
    if system:
        config["system_instruction"] = system
    no_signature = _NO_SIGNATURE if known.takes_json_with_tools else None
    return {
        "model": model,
        "contents": _contents(messages, states, no_signature),
        "config": config,
    }


def _translate(parameters: Parameters, known: Gemini) -> None:
    """Parameters in Google's terms, without those that the model refuses."""
    config = parameters.values
    parameters.omit_unless("service_tier", _SERVICE_TIERS)
    parameters.rename("max_tokens", "max_output_tokens")
    parameters.rename("n", "candidate_count")
    if "stop" in config:
        stop = config.pop("stop")
        config["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    if isinstance(config.get("logprobs"), bool):
        parameters.rename("logprobs", "response_logprobs")
    parameters.rename("top_logprobs", "logprobs")
    accepted = EFFORTS if known.takes_thinking_budget else known.levels
    effort = parameters.take_effort(accepted)
    if effort is None:
        return
    thinking: dict[str, Any]
    if known.takes_thinking_budget:
        budget = max(THINKING_TOKENS.get(effort, 0), known.least_budget)
        thinking = {"thinking_budget": min(budget, _MOST_THINKING)}
    else:
        thinking = {"thinking_level": effort}
    given = config.get("thinking_config")
    config["thinking_config"] = {**thinking, **(given if isinstance(given, Mapping) else {})}


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
