"""An estimate of the tokens that a request needs, made before it is sent."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from agentkit.policy.limits.rates import Need
from agentkit.types import Message, Request, Response, Usage

DEFAULT_OUTPUT = 1024
"""Tokens reserved for the output of a request that sets no maximum."""

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")

_DOCUMENTS = ("document", "file", "input_file")

_MESSAGE = 4
"""Tokens that a provider's chat format adds to each message."""
_CALL = 8
"""What stands around a tool's definition, a call and its result."""
_IMAGE = 1000
"""An image of a megapixel: OpenAI counts 765, Anthropic 1,400, Google 1,032."""
_PAGE = 2000
"""A page of a PDF: Anthropic counts 1,500 to 3,000 as text, and its image besides."""
_PAGE_BYTES = 50_000
"""Bytes of a page, for a PDF that hides its pages in compressed objects."""
_PAGE_MARKS = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")

_LETTER = 0.14
"""Tokens a character of no class below, mostly small letters."""
_LONE_SPACE = 0.38
"""A space between words begins a token; a longer run of spaces is one token."""
_PLAIN: Final = {b"U": 0.22, b"9": 0.6, b".": 0.62, b"\n": 1.7}
"""Tokens a byte: capitals, digits, punctuation, line ends (an indentation included)."""
_ALL: Final = _PLAIN | {
    b"a": 1.0,  # accented Latin letters
    b"c": 0.2,  # Greek, Cyrillic, Hebrew, Arabic
    b"i": 0.4,  # the scripts of India and South East Asia
    b"t": 0.9,  # typographic marks and symbols
    b"h": 0.75,  # Chinese, Japanese
    b"g": 0.6,  # Korean
    b"e": 1.65,  # emoji
}
"""Beyond ASCII, tokens a character, identified by the first byte of its UTF-8."""


def _classes() -> bytes:
    """For each byte the class that it belongs to; small letters, blanks and the rest have none."""
    table = bytearray(256)
    spans = {
        b"U": [(0x41, 0x5B)],
        b"9": [(0x30, 0x3A)],
        b"\n": [(0x0A, 0x0B)],
        b".": [(0x21, 0x30), (0x3A, 0x41), (0x5B, 0x61), (0x7B, 0x80)],
        b"a": [(0xC0, 0xC6)],
        b"c": [(0xC6, 0xE0)],
        b"i": [(0xE0, 0xE2)],
        b"t": [(0xE2, 0xE3)],
        b"h": [(0xE3, 0xEA), (0xEE, 0xF0)],
        b"g": [(0xEA, 0xEE)],
        b"e": [(0xF0, 0x100)],
    }
    for name, bounds in spans.items():
        for first, end in bounds:
            table[first:end] = name * (end - first)
    return bytes(table)


_CLASSES: Final = _classes()


def estimate_tokens(text: str) -> int:
    """Roughly how many tokens `text` is, rounded up; 0 for an empty text.

    Characters are counted by class and weighted. The weights were fitted to counts of OpenAI's
    o200k_base over manuals in eleven languages, program code, JSON and tables. On the corpus of
    ``tests/policy/limits/fixtures``, which had no part in that, the estimate is within 15% of
    o200k_base for each text of at least 100 characters (English and code within 10%) and within 5%
    over all. Other vocabularies differ from it more than that: cl100k_base needs up to 60% more
    tokens for Chinese and 30% more for German. Text like nothing in the corpus (base64, one letter
    a thousand times) may be off by a factor of two.
    """
    data = text.encode("utf-8", "replace")
    classes = data.translate(_CLASSES)
    letters = len(text)
    weight = 0.0
    for name, each in (_PLAIN if len(data) == letters else _ALL).items():
        count = classes.count(name)
        letters -= count
        weight += each * count
    spaces = data.count(b" ")
    lone = max(0, spaces - 2 * data.count(b"  "))
    return math.ceil(weight + _LONE_SPACE * lone + _LETTER * (letters - spaces))


def estimate_need(request: Request) -> Need:
    """What `request` takes: input tokens as below, output tokens by its own maximum or 1024.

    Texts count by `estimate_tokens`, plus 4 tokens per message. The name and the JSON of each tool
    definition, tool call and JSON schema count as text, plus 8 tokens each. An image counts 1000
    tokens, a PDF 2000 per page, a text document as its text, a document behind a URL as one page.
    The stated accuracy is that of texts: how providers count the rest differs by model.
    """
    if request.prompt is not None:
        tokens = estimate_tokens(request.prompt) + _MESSAGE
    else:
        tokens = sum(map(_message_tokens, request.messages))
    for tool in request.tools:
        tokens += estimate_tokens(tool.name) + estimate_tokens(tool.description)
        tokens += _json(tool.parameters)
    if request.response_format is not None:
        tokens += _json(request.response_format.get("schema"))
    return Need(tokens, output_limit(request) or DEFAULT_OUTPUT)


def estimate_usage(request: Request, received: Response[Any] | None) -> Usage:
    """What an attempt used whose provider did not report it.

    The input is that of `estimate_need`. The output is the length of what was `received`, complete
    or in part; without any, it is that of `estimate_need`, too.
    """
    need = estimate_need(request)
    output = 0 if received is None else _output_tokens(received)
    return Usage(need.input_tokens, output or need.output_tokens)


def _output_tokens(response: Response[Any]) -> int:
    tokens = estimate_tokens(response.text) + estimate_tokens(response.reasoning)
    for call in response.tool_calls:
        tokens += estimate_tokens(call.name) + _json(call.arguments)
    return tokens


def output_limit(request: Request) -> int | None:
    """The most output tokens that the request itself allows; None where it says nothing."""
    for name in _LIMITS:
        value = request.params.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _message_tokens(message: Message) -> int:
    content = message.content
    if isinstance(content, str):
        tokens = estimate_tokens(content) + _MESSAGE
    else:
        tokens = sum(map(_part_tokens, content)) + _MESSAGE
    for call in message.tool_calls:
        tokens += estimate_tokens(call.name) + _json(call.arguments)
    return tokens if message.tool_call_id is None else tokens + _CALL


def _part_tokens(part: Any) -> int:
    """A part in any dialect; an adapter refuses the impossible later."""
    if not isinstance(part, Mapping):
        return 0
    text = part.get("text")
    if isinstance(text, str):
        return estimate_tokens(text)
    return _document_tokens(part) if part.get("type") in _DOCUMENTS else _IMAGE


def _document_tokens(part: Mapping[str, Any]) -> int:
    """Its text where it is text, else its pages: counted in bytes, guessed from base64."""
    inner = part.get("source") or part.get("file")
    source = inner if isinstance(inner, Mapping) else part
    data = source.get("data") or source.get("file_data")
    is_text = "text" in (source.get("type"), str(source.get("media_type", "")).partition("/")[0])
    if isinstance(data, str):
        return estimate_tokens(data) if is_text else _pages(len(data) * 3 / 4) * _PAGE
    if not isinstance(data, bytes):
        return _PAGE
    if is_text:
        return estimate_tokens(data.decode("utf-8", "replace"))
    return (len(_PAGE_MARKS.findall(data)) or _pages(len(data))) * _PAGE


def _pages(size: float) -> int:
    return max(1, math.ceil(size / _PAGE_BYTES))


def _json(value: Any) -> int:
    """The tokens of a value as JSON, and of what stands around it; nothing counts as nothing."""
    if not value:
        return _CALL
    try:
        return estimate_tokens(json.dumps(value, default=str, ensure_ascii=False)) + _CALL
    except (TypeError, ValueError, RecursionError):  # no JSON at all: its adapter says so
        return _CALL
