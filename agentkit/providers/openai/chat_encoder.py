"""Requests as OpenAI's chat completions API takes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.errors import InvalidRequestError
from agentkit.providers.content import Part, data_url, parts_of, shortened_id
from agentkit.providers.json_schema import strict_schema, with_json_instruction
from agentkit.providers.state import StateMemory, blocks_in
from agentkit.providers.transport.base import Body
from agentkit.types import Message, MessageRole, Request, ToolCall, ToolSpec

_MAX_ID_LENGTH = 40  # of a tool call, in characters
_MAX_TOKENS = "max_tokens"
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")


def encode(
    request: Request,
    *,
    model: str,
    parameters: Body,
    max_tokens_name: str,
    states: StateMemory,
    stream: bool,
) -> Body:
    """The body of a request; `parameters` become a part of it.

    `states` has the reasoning that came with tool calls: some servers require it back.
    """
    body = parameters
    if _MAX_TOKENS in body and max_tokens_name != _MAX_TOKENS:
        body[max_tokens_name] = body.pop(_MAX_TOKENS)
    if request.tools:
        body["tools"] = [_tool(each) for each in request.tools]
    if "tool_choice" in body:
        body["tool_choice"] = _tool_choice(body["tool_choice"])
    if request.response_format is not None:
        body["response_format"] = encode_response_format(request.response_format)
    if stream:
        body["stream"] = True
        body.setdefault("stream_options", {"include_usage": True})
    body["model"] = model
    messages = (*json_mode_instruction(request, request.conversation), *request.conversation)
    body["messages"] = [_message(each, states) for each in messages]
    return body


def encode_response_format(response_format: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema in strict mode if possible, else as it is; JSON mode without a schema."""
    if response_format.get("type") != "json_schema":
        return dict(response_format)
    strict = strict_schema(response_format["schema"])
    schema = {
        "name": _NOT_IN_NAMES.sub("_", str(response_format.get("name") or "answer"))[:64],
        "schema": response_format["schema"] if strict is None else strict,
        "strict": strict is not None,
    }
    return {"type": "json_schema", "json_schema": schema}


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
