"""Requests as OpenAI's responses API takes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agentkit.providers.content import Part, data_url, parts_of, shortened_id, split_system
from agentkit.providers.json_schema import with_response_format
from agentkit.providers.model_table import openai_model
from agentkit.providers.openai.chat_encoder import encode_response_format, json_mode_instruction
from agentkit.providers.openai.model_rules import fit_to_model
from agentkit.providers.parameters import Parameters
from agentkit.providers.state import Piece, StateMemory, pieces_of
from agentkit.providers.transport.base import Body
from agentkit.types import Message, MessageRole, Request, ToolCall, ToolSpec

_MAX_ID_LENGTH = 64  # of a tool call, in characters
_ENCRYPTED = "reasoning.encrypted_content"


def encode(
    request: Request, *, model: str, parameters: Parameters, states: StateMemory, stream: bool
) -> Body:
    """The body of a request; `parameters` become a part of it.

    `states` has the encrypted reasoning of earlier answers.

    Raises:
        InvalidRequestError: a part of a message, or the response format, is not valid.
    """
    body = parameters.values
    parameters.rename("max_tokens", "max_output_tokens")
    _fit_reasoning(parameters, model)
    if request.tools:
        body["tools"] = [*body.get("tools", ()), *map(_tool, request.tools)]
    if "tools" not in body:
        parameters.omit("tool_choice", "parallel_tool_calls")
    if "tool_choice" in body:
        body["tool_choice"] = _tool_choice(body["tool_choice"])
    request = with_response_format(request, body)
    text = body.pop("text", {})
    if "verbosity" in body:
        text = {"verbosity": body.pop("verbosity"), **text}
    if request.response_format is not None:
        text = {**text, "format": _text_format(request.response_format)}
    if text:
        body["text"] = text
    body.setdefault("store", False)
    if body["store"] is False and ("reasoning" in body or _reasons(model)):
        body["include"] = [*dict.fromkeys((*body.get("include", ()), _ENCRYPTED))]
    system, messages = split_system(request.conversation)
    instructions = [each for each in (body.get("instructions"), system) if each]
    if instructions:
        body["instructions"] = "\n\n".join(instructions)
    if stream:
        body["stream"] = True
    body["model"] = model
    extra = json_mode_instruction(request, messages)
    body["input"] = [{"role": "system", "content": each.text} for each in extra]
    body["input"] += [item for each in messages for item in _items(each, states)]
    return body


def _reasons(model: str) -> bool:
    """Whether the model reasons; others refuse to be asked for encrypted reasoning."""
    known = openai_model(model)
    return known is not None and bool(known.efforts)


def _fit_reasoning(parameters: Parameters, model: str) -> None:
    body = parameters.values
    reasoning = dict(body.pop("reasoning", {}))
    if reasoning.get("effort") is not None:
        body["reasoning_effort"] = reasoning["effort"]
    effort = fit_to_model(parameters, model, chat_with_tools=False)
    if effort is not None:
        reasoning["effort"] = effort
    if reasoning:
        body["reasoning"] = reasoning


def _text_format(response_format: Mapping[str, Any]) -> dict[str, Any]:
    encoded = encode_response_format(response_format)
    return {"type": encoded["type"], **encoded.get("json_schema", {})}


def _tool_choice(choice: Any) -> Any:
    if not isinstance(choice, str) or choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "name": choice}


def _tool(spec: ToolSpec) -> dict[str, Any]:
    tool = {"type": "function", "name": spec.name, "parameters": dict(spec.parameters)}
    if spec.description:
        tool["description"] = spec.description
    return {**tool, "strict": False}


def _items(message: Message, states: StateMemory) -> Iterator[dict[str, Any]]:
    if message.role is MessageRole.TOOL:
        call_id = shortened_id(message.tool_call_id, _MAX_ID_LENGTH)
        yield {"type": "function_call_output", "call_id": call_id, "output": _content(message)}
    elif message.role is MessageRole.USER:
        yield {"role": "user", "content": _content(message)}
    elif pieces := pieces_of(message, states.items_for(message)):
        for piece in pieces:
            if piece.text != "":
                yield _answer_item(piece)
    else:
        if message.text or not message.tool_calls:
            yield {"role": "assistant", "content": message.text}
        for call in message.tool_calls:
            yield _function_call(call)


def _answer_item(piece: Piece) -> dict[str, Any]:
    """An item of an answer as it came: with its id if there is one."""
    own = {name: piece.item[name] for name in ("id", "status", "phase") if name in piece.item}
    if piece.call is not None:
        return {**_function_call(piece.call), **own}
    if piece.text is None:
        return dict(piece.item["block"])
    if "id" not in own:
        return {"role": "assistant", "content": piece.text, **own}
    text = {"type": "output_text", "text": piece.text, "annotations": []}
    message = {"type": "message", "role": "assistant", "status": "completed"}
    return {**message, **own, "content": [text]}


def _function_call(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": shortened_id(call.id, _MAX_ID_LENGTH),
        "name": call.name,
        "arguments": json.dumps(dict(call.arguments), ensure_ascii=False),
    }


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [_part(part) for part in parts_of(message)]


def _part(part: Part) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "input_text", "text": part["text"]}
    if part["type"] == "image":
        return {
            "type": "input_image",
            "image_url": data_url(part),
            "detail": part.get("detail", "auto"),
        }
    if "url" in part:
        return {"type": "input_file", "file_url": part["url"]}
    return {"type": "input_file", "filename": part["name"], "file_data": data_url(part)}
