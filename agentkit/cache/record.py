"""An answer as bytes: versioned, checksummed JSON. Prompts are never part of it.

Layout: ``AKRC``, one byte of format version, a 16-byte BLAKE2b checksum, then what it covers
besides the key: the time of storing (seconds since 1970, a big-endian double) and the JSON text.
The checksum tells damage and mixed-up entries, not forgery; directory permissions keep forgers
out.
"""

from __future__ import annotations

import json
import struct
import sys
from hashlib import blake2b
from typing import Any, Final

from agentkit.cache.faults import CacheFault
from agentkit.types import Response, ToolCall, Usage

VERSION: Final = 1

_MAGIC: Final = b"AKRC"
_DIGEST: Final = 16
_TIME: Final = struct.Struct(">d")
_HEAD: Final = len(_MAGIC) + 1
_BODY: Final = _HEAD + _DIGEST
_FIXED: Final = 1_000  # what a response with its usage, ledger and table entry takes, about
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def own(response: Response[Any]) -> Response[Any]:
    """A copy marked as cached that shares nothing mutable with `response`.

    It keeps text, usage, model, provider, finish reason, tool calls, response id and reasoning.

    Raises:
        TypeError, ValueError: a tool call's arguments are no JSON.
    """
    calls = response.tool_calls
    if calls:
        calls = tuple(ToolCall(c.id, c.name, json.loads(_encode(dict(c.arguments)))) for c in calls)
    return Response(
        response.text, response.usage, response.model, response.provider,
        response.finish_reason, calls, None, True, response.response_id,
        reasoning=response.reasoning,
    )  # fmt: skip


def weight(response: Response[Any]) -> int:
    """What `response` takes in memory, about, in bytes."""
    calls = sum(4 * len(_encode(dict(call.arguments))) for call in response.tool_calls)
    return _FIXED + sys.getsizeof(response.text) + calls


def encode(key: str, response: Response[Any], stored: float) -> bytes:
    """`response` as bytes under `key`, stored at `stored` (seconds since 1970).

    Raises:
        TypeError, ValueError: a part has no JSON.
    """
    usage = response.usage
    text = _encode(
        {
            "text": response.text,
            "usage": [
                usage.input_tokens, usage.output_tokens, usage.cache_read_tokens,
                usage.cache_write_tokens, usage.reasoning_tokens,
            ],
            "model": response.model,
            "provider": response.provider,
            "finish_reason": response.finish_reason,
            "tool_calls": [[c.id, c.name, dict(c.arguments)] for c in response.tool_calls],
            "response_id": response.response_id,
            "reasoning": response.reasoning,
        }
    )  # fmt: skip
    body = _TIME.pack(stored) + text.encode("utf-8", "surrogatepass")
    return b"".join((_MAGIC, bytes((VERSION,)), _checksum(key, body), body))


def decode(key: str, data: Any) -> tuple[Response[Any], float]:
    """The answer in `data` and when it was stored.

    Raises:
        CacheFault: ``foreign`` (not ours), ``newer`` (another version's) or ``corrupt``.
    """
    if type(data) is not bytes or data[: len(_MAGIC)] != _MAGIC:
        raise CacheFault("foreign", "an entry was not written by agentkit; it is ignored")
    if data[len(_MAGIC) : _HEAD] != bytes((VERSION,)):
        raise CacheFault("newer", "an entry has another version's format; it is ignored")
    body = data[_BODY:]
    if data[_HEAD:_BODY] != _checksum(key, body):
        raise CacheFault("corrupt", "an entry does not match its checksum; it is ignored")
    try:
        (stored,) = _TIME.unpack_from(body)
        fields = json.loads(body[_TIME.size :].decode("utf-8", "surrogatepass"))
        response: Response[Any] = Response(
            fields["text"], Usage(*fields["usage"]), fields["model"], fields["provider"],
            fields["finish_reason"], tuple(ToolCall(*call) for call in fields["tool_calls"]),
            None, True, fields["response_id"], reasoning=fields.get("reasoning", ""),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, struct.error, RecursionError):
        raise CacheFault("corrupt", "an entry cannot be read; it is ignored") from None
    return response, stored


def _checksum(key: str, body: bytes) -> bytes:
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_DIGEST)
    digest.update(b"\0")
    digest.update(body)
    return digest.digest()
