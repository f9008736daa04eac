"""Messages as adapters read them: one shape for each kind of part, whoever wrote it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from agentkit.errors import InvalidRequestError, InvalidResponseError
from agentkit.types import Message, MessageRole

Part = dict[str, Any]
_DATA_URL = re.compile(r"data:([^;,]+)(?:;[^;,]+)*;base64,(.*)", re.DOTALL | re.IGNORECASE)


def parts_of(message: Message) -> Iterator[Part]:
    """The parts of a message: ``text``, ``image`` or ``document`` as `Message` documents them.

    Understood besides: OpenAI's ``image_url``, ``file`` and ``input_…`` parts, Anthropic's
    ``source``, data URLs, and base64 texts for data. An image keeps OpenAI's ``detail``. Parts
    without a ``type`` are told by their keys.

    Raises:
        InvalidRequestError: a part of another kind, or one without its data.
    """
    if isinstance(message.content, str):
        if message.content:
            yield {"type": "text", "text": message.content}
        return
    for index, part in enumerate(message.content):
        yield normalised(part, f"content[{index}]")


def normalised(part: Mapping[str, Any], where: str = "the part") -> Part:
    """One part in its own shape. Raises `InvalidRequestError`."""
    if not isinstance(part, Mapping):
        raise InvalidRequestError(f"{where} is {type(part).__name__}, not a dict")
    kind = part.get("type")
    if kind in ("text", "input_text", "output_text") or (kind is None and "text" in part):
        return {"type": "text", "text": _words(part.get("text"), where)}
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
        raise InvalidRequestError(f"{where} has a source that is no dict")
    names = (part.get("name"), part.get("title"), inner.get("filename"))
    name = next((str(each) for each in names if each), "document")
    if inner.get("type") == "text":
        data = _words(inner.get("data"), where).encode()
        return {"data": data, "media_type": "text/plain", "name": name}
    encoded = str(inner.get("file_data") or "")
    url = inner.get("url") or inner.get("file_url")
    source = {"data": encoded or None, **inner, "url": url or encoded}
    if encoded and not encoded.startswith("data:"):
        source["url"] = url
    return {**_data(source, where, "application/pdf"), "name": name}


def _words(text: Any, where: str) -> str:
    if not isinstance(text, str):
        raise InvalidRequestError(f"{where} has {type(text).__name__} for its text")
    return text


def _data(source: Mapping[str, Any], where: str, usual: str) -> Part:
    url, data = source.get("url"), source.get("data")
    media = str(source.get("media_type") or source.get("mime_type") or usual)
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
                f"{where} holds data that is no base64", hint="give bytes, or base64 text"
            ) from None
    if isinstance(data, bytearray | memoryview):
        data = bytes(data)
    if not isinstance(data, bytes) or not data:
        raise InvalidRequestError(f"{where} has no data", hint="give data= (bytes) or url=")
    return {"data": data, "media_type": media}


def base64_of(part: Part) -> str:
    """The part's data as base64 text."""
    return base64.b64encode(part["data"]).decode("ascii")


def data_url(part: Part) -> str:
    """The part's own URL, or its data as one."""
    if "url" in part:
        return str(part["url"])
    return f"data:{part['media_type']};base64,{base64_of(part)}"


def without_system(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """The system messages joined by blank lines, and the others in order."""
    system = [each.text for each in messages if each.role is MessageRole.SYSTEM]
    return "\n\n".join(system), [each for each in messages if each.role is not MessageRole.SYSTEM]


def fitting_id(given: str | None, longest: int) -> str:
    """A tool call's id of at most `longest` characters, the same for the same."""
    if given and len(given) <= longest:
        return given
    return f"call_{sha256((given or '').encode()).hexdigest()}"[:longest]


def json_arguments(text: Any, tool: str) -> dict[str, Any]:
    """A tool call's arguments; no text means none.

    Raises:
        InvalidResponseError: they are no JSON object.
    """
    if isinstance(text, Mapping):
        return dict(text)
    if text is None or text == "":
        return {}
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidResponseError(
            f"the model called {tool} with arguments that are no JSON object"
        )
    return found


def count(value: Any) -> int:
    """A token count as the vendor gives it; missing or negative counts as 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
