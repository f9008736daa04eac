"""Conversion between messages of the Converse API and provider-neutral ones.

Blocks without a neutral form (video, cache points, reasoning, …) become the part
``{"type": "bedrock", "block": {…}}``, so that a message survives the round trip unchanged.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agentkit.errors import InvalidRequestError
from agentkit.providers.bedrock.errors import invalid
from agentkit.providers.content import EMPTY, Part, hashed_id, is_blank, normalise_part
from agentkit.providers.json_schema import with_json_instruction, with_response_format
from agentkit.providers.state import Item, StateMemory, blocks_in, pieces_of
from agentkit.types import Message, MessageRole, Request, ToolCall
from agentkit.types.json_values import pack, unpack

Arguments = dict[str, Any]
Block = dict[str, Any]

_NAME_LENGTH = 200
_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_DOCUMENT_TYPES = {
    "pdf": "application/pdf",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
}
_IMAGE_FORMATS = frozenset({"jpeg", "png", "gif", "webp"})
_DOCUMENT_FORMATS = {media: name for name, media in _DOCUMENT_TYPES.items()}


def to_messages(message: Mapping[str, Any]) -> list[Message]:
    """A Converse message as neutral ones: each tool result becomes a message of role ``tool``."""
    parts: list[Mapping[str, Any]] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for block in message["content"]:
        if "toolUse" in block:
            use = block["toolUse"]
            calls.append(ToolCall(use["toolUseId"], use["name"], use["input"]))
        elif "toolResult" in block:
            results.append(_tool_message(block["toolResult"]))
        else:
            parts.append(_part(block))
    texts = [part["text"] for part in parts if part["type"] == "text"]
    content: Any = texts[0] if len(texts) == len(parts) == 1 else parts
    if not parts and results:
        return results
    return [*results, Message(message["role"], content or "", tool_calls=tuple(calls))]


def from_messages(
    messages: Iterable[Message], states: StateMemory | None = None
) -> tuple[list[Block], list[Block]]:
    """Neutral messages as (system blocks, Converse messages).

    Consecutive messages of one role are merged, as the service requires roles to alternate. Text
    without a visible character is left out, as the service refuses it; a user's message of nothing
    else becomes `EMPTY`.

    Args:
        messages: OpenAI's and Anthropic's content parts are understood, too.
        states: has the reasoning of earlier answers.

    Raises:
        RequestValidationError: the service does not accept a part, such as the URL of an image.
    """
    system: list[Block] = []
    turns: list[Block] = []
    for message in messages:
        blocks = list(_blocks(message, () if states is None else states.items_for(message)))
        if message.role is MessageRole.SYSTEM:
            system += blocks
            continue
        role = "assistant" if message.role is MessageRole.ASSISTANT else "user"
        if not blocks and role == "user":
            blocks = [{"text": EMPTY}]
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return system, turns


def items_of(blocks: Iterable[Mapping[str, Any]]) -> list[Item]:
    """The blocks of an answer as the items of a provider state.

    A model takes its reasoning back only if it is signed or encrypted.
    """
    items: list[Item] = []
    begun = reasons = False
    for block in blocks:
        reasoning = block.get("reasoningContent")
        if reasoning is not None:
            text = reasoning.get("reasoningText") or {}
            if text.get("signature") or "redactedContent" in reasoning:
                items.append({"block": pack(block)})
                reasons = True
        elif "toolUse" in block:
            items.append({"call": True})
        elif text := "".join(texts_of([block])):
            items.append({"text": len(text) + 1, "line": True} if begun else {"text": len(text)})
            begun = True
    return items if reasons else []


def arguments_of(request: Request, states: StateMemory) -> Arguments:
    """Converse's arguments of a provider-neutral request.

    Raises:
        InvalidRequestError: a part of a message, or the response format, is not valid.
    """
    params = {name: value for name, value in request.params.items() if value is not None}
    request = with_response_format(request, params)
    if request.response_format is not None:  # few models have an option of their own
        request = with_json_instruction(request)
    system, messages = from_messages(request.conversation, states)
    arguments: Arguments = {"messages": messages}
    if system:
        arguments["system"] = system
    if "max_completion_tokens" in params:
        params.setdefault("max_tokens", params.pop("max_completion_tokens"))
    names = {"max_tokens": "maxTokens", "temperature": "temperature", "top_p": "topP"}
    inference = {ours: params.pop(name) for name, ours in names.items() if name in params}
    if "stop" in params:
        stop = params.pop("stop")
        inference["stopSequences"] = [stop] if isinstance(stop, str) else list(stop)
    if inference:
        arguments["inferenceConfig"] = inference
    tools = _tool_config(request, params.pop("tool_choice", None))
    if tools is not None:
        arguments["toolConfig"] = tools
    if params:
        arguments["additionalModelRequestFields"] = params
    return arguments


def _tool_config(request: Request, choice: Any) -> Block | None:
    """The tools; the service also requires those that only the history has."""
    kind = choice.get("type") if isinstance(choice, Mapping) else choice
    called = {
        call.name: _tool_spec(call.name, "", {"type": "object"})
        for message in request.messages
        for call in message.tool_calls
    }
    tools = [_tool_spec(each.name, each.description, each.parameters) for each in request.tools]
    if not called and kind == "none":
        return None
    if not tools:
        tools, choice = list(called.values()), None
    if not tools:
        return None
    config: Block = {"tools": tools}
    if choice is not None and kind != "none":  # the API has no such choice
        config["toolChoice"] = _tool_choice(choice)
    return config


def _tool_spec(name: str, description: str, parameters: Mapping[str, Any]) -> Block:
    schema = {"json": dict(parameters)}
    spec = {"name": name, "description": description or name, "inputSchema": schema}
    return {"toolSpec": spec}


def _tool_choice(choice: Any) -> Block:
    """``auto``, ``required`` or a tool's name in the service's terms; its own pass unchanged."""
    if isinstance(choice, Mapping):
        if choice.keys() & {"auto", "any"} or isinstance(choice.get("tool"), Mapping):
            return dict(choice)
        function = choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
        choice = name or choice.get("type")
    if choice in ("auto", "any", "required"):
        return {"auto" if choice == "auto" else "any": {}}
    return {"tool": {"name": str(choice)}}


def _tool_message(result: Mapping[str, Any]) -> Message:
    content = result["content"]
    only = content[0] if len(content) == 1 else {}
    text = only.get("text", json.dumps(only["json"]) if "json" in only else None)
    metadata = {"status": result["status"]} if "status" in result else {}
    return Message(
        MessageRole.TOOL,
        text if text is not None else [{"type": "bedrock", "block": dict(one)} for one in content],
        metadata=metadata,
        tool_call_id=result["toolUseId"],
    )


def _part(block: Mapping[str, Any]) -> Mapping[str, Any]:
    if "text" in block:
        return {"type": "text", "text": block["text"]}
    for kind, media in (("image", "image/{}"), ("document", None)):
        inner = block.get(kind, {})
        source = inner.get("source", {})
        if set(inner) <= {"format", "name", "source"} and "bytes" in source:
            media_type = media.format(inner["format"]) if media else _media(inner.get("format"))
            part = {"type": kind, "data": source["bytes"], "media_type": media_type}
            return part | ({"name": inner["name"]} if "name" in inner else {})
    return {"type": "bedrock", "block": dict(block)}


def _media(format_: str | None) -> str:
    return _DOCUMENT_TYPES.get(format_ or "txt", "text/plain")


def _blocks(message: Message, items: Sequence[Item]) -> Iterator[Block]:
    pieces = pieces_of(message, items)
    if pieces is not None:
        for piece in pieces:
            if piece.call is not None:
                yield _tool_use(piece.call)
            elif piece.text is None:
                yield unpack(piece.item["block"])
            elif piece.text.strip():
                yield {"text": piece.text[1:] if "line" in piece.item else piece.text}
        return
    blocks = list(_content(message))
    if message.role is MessageRole.TOOL:
        result: Block = {
            "toolUseId": _valid_id(message.tool_call_id or ""),
            "content": blocks or [{"text": EMPTY}],
        }
        if "status" in message.metadata:
            result["status"] = message.metadata["status"]
        yield {"toolResult": result}
        return
    yield from map(unpack, blocks_in(items))
    yield from blocks
    yield from map(_tool_use, message.tool_calls)


def _tool_use(call: ToolCall) -> Block:
    use = {"toolUseId": _valid_id(call.id), "name": call.name, "input": dict(call.arguments)}
    return {"toolUse": use}


def _valid_id(call_id: str) -> str:
    """The id of a tool call; one that the service would refuse is replaced by a hash of it."""
    return call_id if _ID.fullmatch(call_id) else hashed_id(call_id)


def _content(message: Message) -> Iterator[Block]:
    content = message.content
    parts: Sequence[Mapping[str, Any]]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for index, part in enumerate(parts):
        if "block" in part and part.get("type") == "bedrock":
            yield dict(part["block"])
            continue
        try:
            normal = normalise_part(part, f"content[{index}]")
        except InvalidRequestError as error:
            raise invalid(error.message, error.hint) from error
        if not is_blank(normal):
            yield _block(normal)


def _block(part: Part) -> Block:
    if part["type"] == "text":
        return {"text": part["text"]}
    if part["type"] == "image":
        return {"image": {"format": _image_format(part["media_type"]), "source": _source(part)}}
    name = document_name(str(part.get("name") or ""))
    form = _document_format(part["media_type"])
    return {"document": {"format": form, "name": name, "source": _source(part)}}


def _source(part: Part) -> Block:
    if "data" in part:
        return {"bytes": part["data"]}
    if part["url"].startswith("s3://"):
        return {"s3Location": {"uri": part["url"]}}
    raise invalid(
        "the Converse API accepts bytes and S3 URIs, not web addresses",
        "download the file and pass its bytes",
    )


def _image_format(media: str) -> str:
    name = media.removeprefix("image/").replace("jpg", "jpeg")
    if name not in _IMAGE_FORMATS:
        raise invalid(f"the Converse API does not accept images of type {media!r}")
    return name


def _document_format(media: str) -> str:
    name = _DOCUMENT_FORMATS.get(media, media)
    if name not in _DOCUMENT_TYPES:
        raise invalid(f"the Converse API does not accept documents of type {media!r}")
    return name


def document_name(name: str, taken: frozenset[str] | set[str] = frozenset()) -> str:
    """`name` in a form that the service accepts, and different from the `taken` ones.

    The service accepts letters, digits, single spaces, hyphens, parentheses and square brackets,
    at most 200 characters. Accents are dropped, and other characters become spaces. An empty name
    becomes ``Document``, and a taken one gets a number: ``report (2)``.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    clean = " ".join(re.sub(r"[^A-Za-z0-9\-()\[\]]", " ", plain).split())
    clean = clean[:_NAME_LENGTH].strip() or "Document"
    free, count = clean, 1
    while free in taken:
        count += 1
        suffix = f" ({count})"
        free = clean[: _NAME_LENGTH - len(suffix)].rstrip() + suffix
    return free


def texts_of(blocks: Iterable[Mapping[str, Any]]) -> list[str]:
    """The texts of an answer's blocks, those with citations included."""
    texts = []
    for block in blocks:
        if "text" in block:
            texts.append(block["text"])
        elif "citationsContent" in block:
            parts = block["citationsContent"].get("content") or ()
            texts.append("".join(part.get("text", "") for part in parts))
    return texts


def joined(texts: Iterable[str]) -> str:
    """The texts of an answer as one, a line for each block that has any."""
    return "\n".join(text for text in texts if text)
