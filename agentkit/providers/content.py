"""The content of messages as encoders read it: one shape for each kind of part."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from agentkit.errors import InvalidRequestError
from agentkit.types import Message, MessageRole

Part = dict[str, Any]
EMPTY = "(empty)"
"""Stands for a message or result without content, where a provider requires some."""
_DATA_URL = re.compile(r"data:([^;,]+)(?:;[^;,]+)*;base64,(.*)", re.DOTALL | re.IGNORECASE)


def parts_of(message: Message) -> Iterator[Part]:
    """The parts of a message: ``text``, ``image`` or ``document`` as `Message` documents them.

    OpenAI's ``image_url``, ``file`` and ``input_…`` parts, Anthropic's ``source``, data URLs and
    base64 strings are converted. An image keeps OpenAI's ``detail``. A part without a ``type`` is
    recognised by its keys.

    Raises:
        InvalidRequestError: a part has another kind, or lacks its data.
    """
    if isinstance(message.content, str):
        if message.content:
            yield {"type": "text", "text": message.content}
        return
    for index, part in enumerate(message.content):
        yield normalise_part(part, f"content[{index}]")


def normalise_part(part: Mapping[str, Any], where: str = "the part") -> Part:
    """One part as `parts_of` gives it. Raises `InvalidRequestError`."""
    if not isinstance(part, Mapping):
        raise InvalidRequestError(f"{where} is {type(part).__name__}, not a dict")
    kind = part.get("type")
    if kind in ("text", "input_text", "output_text") or (kind is None and "text" in part):
        return {"type": "text", "text": _text(part.get("text"), where)}
    if kind in ("image", "image_url", "input_image") or (kind is None and "image_url" in part):
        source = _image_source(part)
        detail = source.get("detail") or part.get("detail")
        kept = {} if detail is None else {"detail": detail}
        return {"type": "image", **_data(source, where, "image/png"), **kept}
    if kind in ("document", "file", "input_file"):
        return {"type": "document", **_document(part, where)}
    raise InvalidRequestError(
        f"{where} has type {kind!r}", hint="use text, image or document parts"
    )


def _image_source(part: Mapping[str, Any]) -> Mapping[str, Any]:
    url = part.get("image_url")
    if isinstance(url, str):
        return {"url": url}
    if isinstance(url, Mapping):
        return url
    source = part.get("source")
    return source if isinstance(source, Mapping) else part


def _document(part: Mapping[str, Any], where: str) -> Part:
    inner = part.get("source") or part.get("file") or part
    if not isinstance(inner, Mapping):
        raise InvalidRequestError(f"{where} has a source that is not a dict")
    names = (part.get("name"), part.get("title"), inner.get("filename"))
    name = next((str(each) for each in names if each), "document")
    if inner.get("type") == "text":
        data = _text(inner.get("data"), where).encode()
        return {"data": data, "media_type": "text/plain", "name": name}
    encoded = str(inner.get("file_data") or "")
    url = inner.get("url") or inner.get("file_url")
    source = {"data": encoded or None, **inner, "url": url or encoded}
    if encoded and not encoded.startswith("data:"):
        source["url"] = url
    return {**_data(source, where, "application/pdf"), "name": name}


def _text(text: Any, where: str) -> str:
    if not isinstance(text, str):
        raise InvalidRequestError(f"{where} has {type(text).__name__} instead of text")
    return text


def _data(source: Mapping[str, Any], where: str, default_type: str) -> Part:
    url, data = source.get("url"), source.get("data")
    media = str(source.get("media_type") or source.get("mime_type") or default_type)
    if isinstance(url, str) and url:
        match = _DATA_URL.fullmatch(url)
        if match is None and url[:5].lower() != "data:":
            return {"url": url, "media_type": media}
        media, data = (match[1], match[2]) if match else (media, None)
    if isinstance(data, str):
        try:
            data = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequestError(
                f"{where} has data that is not valid base64", hint="give bytes, or a base64 string"
            ) from None
    if isinstance(data, bytearray | memoryview):
        data = bytes(data)
    if not isinstance(data, bytes) or not data:
        raise InvalidRequestError(f"{where} has no data", hint="give data= (bytes) or url=")
    return {"data": data, "media_type": media}


def is_blank(part: Part) -> bool:
    """Whether a part is text without a visible character, which some providers refuse."""
    return part.get("type") == "text" and not part["text"].strip()


def base64_of(part: Part) -> str:
    """The part's data as a base64 string."""
    return base64.b64encode(part["data"]).decode("ascii")


def data_url(part: Part) -> str:
    """The part's own URL, or its data as one."""
    if "url" in part:
        return str(part["url"])
    return f"data:{part['media_type']};base64,{base64_of(part)}"


def split_system(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """The system messages joined by blank lines, and the others in order."""
    system = [each.text for each in messages if each.role is MessageRole.SYSTEM]
    return "\n\n".join(system), [each for each in messages if each.role is not MessageRole.SYSTEM]


def shortened_id(call_id: str | None, max_length: int) -> str:
    """The id of a tool call; one that is too long is replaced by a hash of it."""
    if call_id and len(call_id) <= max_length:
        return call_id
    return f"call_{sha256((call_id or '').encode()).hexdigest()}"[:max_length]


def hashed_id(call_id: str) -> str:
    """An id of letters, digits and ``_`` in place of one that a provider would refuse."""
    return f"call_{sha256(call_id.encode()).hexdigest()[:32]}"
