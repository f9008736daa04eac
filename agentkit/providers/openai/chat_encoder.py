"""Requests as OpenAI's chat completions API takes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.errors import InvalidRequestError
from agentkit.providers.content import Part, data_url, parts_of, shortened_id
from agentkit.providers.json_schema import (
    normal_response_format,
    strict_schema,
    with_json_instruction,
    with_response_format,
)
from agentkit.providers.parameters import Parameters
from agentkit.providers.state import StateMemory, blocks_in
from agentkit.providers.transport.base import Body
from agentkit.types import Message, MessageRole, Request, ToolCall, ToolSpec

_MAX_ID_LENGTH = 40  # of a tool call, in characters
_FOLLOWS = "(Its images and files follow in the next user message.)"
"""The API takes nothing but text in the result of a tool."""
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")


def encode(
    request: Request,
    *,
    model: str,
    parameters: Parameters,
    max_tokens_name: str,
    any_response_format: bool,
    stream_usage: bool,
    states: StateMemory,
    stream: bool,
) -> Body:
    """The body of a request; `parameters` become a part of it.

    Args:
        request: the request.
        model: the provider's name of the model.
        parameters: its parameters.
        max_tokens_name: what the provider calls the limit on the tokens of an answer.
        any_response_format: whether a ``response_format`` of unknown shape is sent as it is.
        stream_usage: whether a stream has its usage only on request.
        states: the reasoning that came with tool calls, which some servers require back.
        stream: whether the answer is streamed.

    Raises:
        InvalidRequestError: a part of a message, or the response format, is not valid.
    """
    body = parameters.values
    parameters.rename("max_tokens", max_tokens_name)
    if request.tools:
        body["tools"] = [*body.get("tools", ()), *map(_tool, request.tools)]
    if "tools" not in body:
        parameters.omit("tool_choice", "parallel_tool_calls")
    if "tool_choice" in body:
        body["tool_choice"] = _tool_choice(body["tool_choice"])
    if "response_format" in body and not (any_response_format and _is_own(body["response_format"])):
        request = with_response_format(request, body)
    if request.response_format is not None:
        body["response_format"] = encode_response_format(request.response_format)
    if stream:
        body["stream"] = True
        if stream_usage:
            body.setdefault("stream_options", {"include_usage": True})
    body["model"] = model
    messages = (*json_mode_instruction(request, request.conversation), *request.conversation)
    body["messages"] = _messages(messages, states)
    return body


def encode_response_format(response_format: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema in strict mode if possible, else as it is; JSON mode without a schema."""
    if response_format.get("type") != "json_schema":
        return dict(response_format)
    own = dict(response_format["schema"])
    given = response_format.get("strict")
    strict = strict_schema(own) if given is None else None
    schema = {
        "name": _NOT_IN_NAMES.sub("_", str(response_format.get("name") or "answer"))[:64],
        "schema": own if strict is None else strict,
        "strict": strict is not None if given is None else given,
    }
    if "description" in response_format:
        schema["description"] = response_format["description"]
    return {"type": "json_schema", "json_schema": schema}


def _is_own(response_format: Any) -> bool:
    """Whether only the server may know what a ``response_format`` means."""
    try:
        normal_response_format(response_format)
    except InvalidRequestError:
        return True
    return False


def json_mode_instruction(request: Request, messages: Sequence[Message]) -> tuple[Message, ...]:
    """The message that JSON mode needs: the API refuses it unless a message mentions JSON."""
    response_format = request.response_format
    if response_format is None or response_format.get("type") != "json_object":
        return ()
    if any("json" in each.text.lower() for each in messages):
        return ()
    return with_json_instruction(request).messages[:1]


def _tool_choice(choice: Any) -> Any:
    """``auto``, ``none``, ``required``, a vendor's own dict, or the name of one tool."""
    if not isinstance(choice, str) or choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def _tool(spec: ToolSpec) -> dict[str, Any]:
    function = {"name": spec.name, "parameters": dict(spec.parameters)}
    if spec.description:
        function["description"] = spec.description
    return {"type": "function", "function": function}


def _messages(messages: Sequence[Message], states: StateMemory) -> list[dict[str, Any]]:
    """The messages; what is not text in the results of tools follows in a user's message."""
    encoded: list[dict[str, Any]] = []
    media: list[dict[str, Any]] = []
    for message in messages:
        if media and message.role is not MessageRole.TOOL:
            encoded.append({"role": "user", "content": media})
            media = []
        encoded.append(_message(message, states))
        if message.role is MessageRole.TOOL:
            found = [_part(each) for each in parts_of(message) if each["type"] != "text"]
            if found:
                call_id = encoded[-1]["tool_call_id"]
                encoded[-1]["content"] = "\n".join(filter(None, (message.text, _FOLLOWS)))
                media += [{"type": "text", "text": f"From the result of {call_id}:"}, *found]
    return [*encoded, {"role": "user", "content": media}] if media else encoded


def _message(message: Message, states: StateMemory) -> dict[str, Any]:
    role = message.role
    if role is MessageRole.TOOL:
        call_id = shortened_id(message.tool_call_id, _MAX_ID_LENGTH)
        return {"role": "tool", "content": message.text, "tool_call_id": call_id}
    if role is MessageRole.ASSISTANT and message.tool_calls:
        items = states.items_for(message)
        calls = [_tool_call(each) for each in message.tool_calls]
        own = [item for item in items if "call" in item]
        if len(own) == len(calls):
            for call, item in zip(calls, own, strict=True):
                call.update((name, value) for name, value in item.items() if name != "call")
        answer = {"role": "assistant", "content": message.text or None, "tool_calls": calls}
        for block in blocks_in(items):
            answer.update(block)
        return answer
    if isinstance(message.content, str):
        return {"role": str(role), "content": message.content}
    return {"role": str(role), "content": [_part(each) for each in parts_of(message)]}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    return {"id": shortened_id(call.id, _MAX_ID_LENGTH), "type": "function", "function": function}


def _part(part: Part) -> dict[str, Any]:
    if part["type"] == "text":
        return part
    if part["type"] == "image":
        detail = {"detail": part["detail"]} if "detail" in part else {}
        return {"type": "image_url", "image_url": {"url": data_url(part), **detail}}
    if "url" in part:
        raise InvalidRequestError(
            "chat completions do not take the URL of a document", hint="give data= (bytes)"
        )
    return {"type": "file", "file": {"filename": part["name"], "file_data": data_url(part)}}
