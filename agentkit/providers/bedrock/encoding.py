"""Conversion between messages of the Converse API and provider-neutral ones.

Blocks without a neutral form (video, cache points, reasoning, …) become the part
``{"type": "bedrock", "block": {…}}``, so that a message survives the round trip unchanged.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agentkit.providers.bedrock.errors import invalid
from agentkit.types import Message, MessageRole, Request, ToolCall

Arguments = dict[str, Any]
Block = dict[str, Any]

_NAME_LENGTH = 200
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


def from_messages(messages: Iterable[Message]) -> tuple[list[Block], list[Block]]:
    """Neutral messages as (system blocks, Converse messages).

    Consecutive messages of one role are merged, as the service requires roles to alternate.

    Raises:
        RequestValidationError: the service does not accept a part, such as the URL of an image.
    """
    system: list[Block] = []
    turns: list[Block] = []
    for message in messages:
        blocks = list(_blocks(message))
        if message.role is MessageRole.SYSTEM:
            system += blocks
            continue
        role = "assistant" if message.role is MessageRole.ASSISTANT else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return system, turns


def arguments_of(request: Request) -> Arguments:
    """Converse's arguments of a provider-neutral request."""
    system, messages = from_messages(request.conversation)
    arguments: Arguments = {"messages": messages}
    if system:
        arguments["system"] = system
    params = {name: value for name, value in request.params.items() if value is not None}
    names = {"max_tokens": "maxTokens", "temperature": "temperature", "top_p": "topP"}
    inference = {ours: params.pop(name) for name, ours in names.items() if name in params}
    if "stop" in params:
        stop = params.pop("stop")
        inference["stopSequences"] = [stop] if isinstance(stop, str) else list(stop)
    if inference:
        arguments["inferenceConfig"] = inference
    if request.tools:
        arguments["toolConfig"] = {
            "tools": [
                {
                    "toolSpec": {
                        "name": tool.name,
                        "description": tool.description or tool.name,
                        "inputSchema": {"json": dict(tool.parameters)},
                    }
                }
                for tool in request.tools
            ]
        }
    if params:
        arguments["additionalModelRequestFields"] = params
    return arguments


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


def _blocks(message: Message) -> Iterator[Block]:
    content = message.content
    parts: Sequence[Mapping[str, Any]]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    blocks = [_block(part) for part in parts if part.get("text") != ""]
    if message.role is MessageRole.TOOL:
        result: Block = {"toolUseId": message.tool_call_id or "", "content": blocks}
        if "status" in message.metadata:
            result["status"] = message.metadata["status"]
        yield {"toolResult": result}
        return
    yield from blocks
    for call in message.tool_calls:
        arguments = dict(call.arguments)
        yield {"toolUse": {"toolUseId": call.id, "name": call.name, "input": arguments}}


def _block(part: Mapping[str, Any]) -> Block:
    kind = part.get("type")
    if kind == "text":
        return {"text": part["text"]}
    if kind == "bedrock":
        return dict(part["block"])
    if kind == "image":
        media, source = _source(part)
        return {"image": {"format": _image_format(media), "source": source}}
    if kind == "document":
        media, source = _source(part)
        name = document_name(str(part.get("name") or ""))
        return {"document": {"format": _document_format(media), "name": name, "source": source}}
    raise invalid(f"a content part of type {kind!r} cannot be sent to the Converse API")


def _source(part: Mapping[str, Any]) -> tuple[str, Block]:
    """The media type and the source: bytes, a data URL, or S3."""
    media = str(part.get("media_type") or "")
    if "data" in part:
        return media, {"bytes": part["data"]}
    url = str(part.get("url") or "")
    if url.startswith("s3://"):
        return media, {"s3Location": {"uri": url}}
    if url.startswith("data:") and ";base64," in url:
        head, data = url[5:].split(";base64,", 1)
        try:
            return media or head, {"bytes": base64.b64decode(data, validate=True)}
        except binascii.Error as error:
            raise invalid(f"a data URL with invalid base64: {error}") from error
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
