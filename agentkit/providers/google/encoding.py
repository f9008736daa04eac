"""A request in the words of Google's Gemini API."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agentkit.errors import InvalidRequestError
from agentkit.providers.call_memory import Recall
from agentkit.providers.content import Part, parts_of, without_system
from agentkit.providers.http_sdk import READ_TIMEOUT
from agentkit.providers.json_schema import with_json_instruction, with_response_format
from agentkit.providers.sdk import apart
from agentkit.types import Message, MessageRole, Request, ToolCall

_RENAMED = {
    "max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens",
    "stop": "stop_sequences",
}  # fmt: skip
_SHORTEST_DEADLINE = 10
"""Seconds: the API refuses a request that allows the server less."""
_OLDER = ("gemini-1", "gemini-2")
"""Models that answer in JSON or call tools but not both, and need no signatures (as of 2026-11)."""
_FOREIGN_CALL: Final = b"skip_thought_signature_validator"
"""What Google documents in place of the signature of a call that its model did not make."""


def encoded(
    model: str, options: dict[str, Any], request: Request, signatures: Recall[bytes]
) -> dict[str, Any]:
    """The arguments of the SDK's `generate_content`.

    `signatures` holds the thought signatures that came with calls: the API wants them back.

    Raises:
        InvalidRequestError: a parameter or a part of a message is not what it must be.
    """
    request = with_response_format(request, options)
    older = model.removeprefix("models/").startswith(_OLDER)
    for name, other in _RENAMED.items():
        if name in options:
            options[other] = options.pop(name)
    if isinstance(options.get("stop_sequences"), str):
        options["stop_sequences"] = [options["stop_sequences"]]
    if "tool_choice" in options:
        options["tool_config"] = tool_choice(options.pop("tool_choice"))
    if request.tools:
        options["tools"] = [{"function_declarations": [_tool(each) for each in request.tools]}]
    wish = request.response_format
    if wish is not None:
        if older and request.tools:
            request = with_json_instruction(request)
        else:
            options["response_mime_type"] = "application/json"
            if "schema" in wish:
                options["response_json_schema"] = dict(wish["schema"])
    system, messages = without_system(request.conversation)
    if system:
        options["system_instruction"] = system
    return {
        "model": model,
        "contents": contents(messages, signatures, foreign=None if older else _FOREIGN_CALL),
        "config": _config(options, request.timeout),
    }


def _config(options: dict[str, Any], timeout: float | None) -> Any:
    from google.genai.types import GenerateContentConfig
    from pydantic import ValidationError

    fields = GenerateContentConfig.model_fields
    known = {*fields, *(field.alias for field in fields.values() if field.alias), "extra_body"}
    options = apart(options, frozenset(known))
    extra = options.pop("extra_body", None)
    limit = READ_TIMEOUT if timeout is None else timeout
    server = str(max(math.ceil(limit), _SHORTEST_DEADLINE))
    http: dict[str, Any] = {
        "timeout": max(1, int(limit * 1000)),
        "headers": {"X-Server-Timeout": server},
    }
    if extra:
        http["extra_body"] = _written(extra)
    options["http_options"] = {**http, **dict(options.get("http_options") or {})}
    # Otherwise the SDK would run tools by itself, in a loop of its own, and ask again in secret for
    # an answer that stopped or broke half way.
    options.setdefault("automatic_function_calling", {"disable": True})
    options.setdefault("automatic_continuation", False)
    try:
        return GenerateContentConfig(**options)
    except ValidationError as exc:
        places = sorted({".".join(map(str, error["loc"][:2])) for error in exc.errors()})
        raise InvalidRequestError(
            f"the Gemini API takes no such value for: {', '.join(places)}",
            hint="see google.genai.types.GenerateContentConfig",
        ) from exc


def _written(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        json.dumps(extra)
    except (TypeError, ValueError) as exc:
        raise InvalidRequestError(
            "a parameter cannot be written down as JSON",
            hint="parameters are texts, numbers, lists and dicts; see __cause__",
        ) from exc
    return extra


def tool_choice(wish: Any) -> Any:
    """``auto``, ``none``, ``required`` or a tool's name in Google's words."""
    if not isinstance(wish, str):
        return wish
    known = {"auto": "AUTO", "none": "NONE", "required": "ANY", "any": "ANY"}
    calling: dict[str, Any] = {"mode": known.get(wish, "ANY")}
    if wish not in known:
        calling["allowed_function_names"] = [wish]
    return {"function_calling_config": calling}


def contents(
    messages: Sequence[Message], signatures: Recall[bytes], *, foreign: bytes | None = None
) -> list[dict[str, Any]]:
    """User and model turns; neighbours of one role are merged.

    `foreign` stands in for the signature of a call that another model made.
    """
    turns: list[dict[str, Any]] = []
    open_calls: list[ToolCall] = []
    for message in messages:
        if message.role is MessageRole.ASSISTANT:
            role, open_calls = "model", list(message.tool_calls)
            parts = [_part(each) for each in parts_of(message)]
            parts += _calls(message.tool_calls, signatures, foreign)
        elif message.role is MessageRole.TOOL:
            role, parts = "user", _result(message, open_calls)
        else:
            role, parts = "user", [_part(each) for each in parts_of(message)]
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"].extend(parts)
        elif parts:
            turns.append({"role": role, "parts": parts})
    return turns


def _calls(
    calls: Sequence[ToolCall], signatures: Recall[bytes], foreign: bytes | None
) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for call in calls:
        function = {"id": call.id, "name": call.name, "args": dict(call.arguments)}
        part: dict[str, Any] = {"function_call": function}
        signature = signatures.of(call.id)
        if signature is not None:
            part["thought_signature"] = signature
        parts.append(part)
    # Of calls made side by side only the first is signed.
    if parts and foreign is not None and not any("thought_signature" in each for each in parts):
        parts[0]["thought_signature"] = foreign
    return parts


def _result(message: Message, open_calls: list[ToolCall]) -> list[dict[str, Any]]:
    """A tool's result under its call's name; one without a known id answers the next open call."""
    mine = next((each for each in open_calls if each.id == message.tool_call_id), None)
    if mine is None and open_calls:
        mine = open_calls[0]
    if mine is not None:
        open_calls.remove(mine)
    result: dict[str, Any] = {
        "name": mine.name if mine else message.tool_call_id or "tool",
        "response": _object(message.text),
    }
    call_id = mine.id if mine else message.tool_call_id
    if call_id:
        result["id"] = call_id
    media = [_part(each) for each in parts_of(message) if each["type"] != "text"]
    return [{"function_response": result}, *media]


def _object(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return found
    return {"output": text}


def _part(part: Part) -> dict[str, Any]:
    if part["type"] == "text":
        return {"text": part["text"]}
    if "url" in part:
        return {"file_data": {"file_uri": part["url"], "mime_type": part["media_type"]}}
    return {"inline_data": {"data": part["data"], "mime_type": part["media_type"]}}


def _tool(spec: Any) -> dict[str, Any]:
    told = {"name": spec.name, "parameters_json_schema": dict(spec.parameters)}
    if spec.description:
        told["description"] = spec.description
    return told
