"""A response as bytes: versioned JSON with a checksum. Prompts are never part of it.

Layout: ``AKRC``, one byte with the version of the format, a 16-byte BLAKE2b checksum, the time of
storing (seconds since 1970, a big-endian double), and the JSON text. The checksum covers the key,
the time and the text. It detects damaged and mixed-up entries. Without a secret it does not detect
forged ones; against forgery, the directory is writable by its owner only.
"""

from __future__ import annotations

import json
import struct
import sys
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Final

from agentkit.cache.faults import CacheFault
from agentkit.types import ProviderState, Response, ToolCall, Usage

VERSION: Final = 1

_MAGIC: Final = b"AKRC"
_DIGEST: Final = 16
_TIME: Final = struct.Struct(">d")
_HEAD: Final = len(_MAGIC) + 1
_BODY: Final = _HEAD + _DIGEST
_OVERHEAD: Final = 1_000
"""Approximate bytes of a response without its text: usage, ledger, table entry."""

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode
_decode = json.JSONDecoder().raw_decode
"""Takes half as long as `json.loads`, and the checksum has shown that nothing follows the text."""


def copy_as_cached(response: Response[Any]) -> Response[Any]:
    """A copy that is marked as cached and shares nothing mutable with `response`.

    It keeps text, usage, model, provider, finish reason, tool calls, response id, reasoning, the
    provider's state and model id.

    Raises:
        TypeError, ValueError, RecursionError: the arguments of a tool call are not valid JSON.
    """
    calls = response.tool_calls
    if calls:
        calls = tuple(ToolCall(c.id, c.name, json.loads(_encode(dict(c.arguments)))) for c in calls)
    return Response(
        text=response.text,
        usage=response.usage,
        model=response.model,
        provider=response.provider,
        finish_reason=response.finish_reason,
        tool_calls=calls,
        cached=True,
        response_id=response.response_id,
        reasoning=response.reasoning,
        state=response.state,
        model_id=response.model_id,
    )


def size_of(response: Response[Any]) -> int:
    """The approximate size of `response` in memory, in bytes."""
    calls = sum(4 * len(_encode(dict(call.arguments))) for call in response.tool_calls)
    state = 0 if response.state is None else 4 * len(_encode(response.state.to_dict()))
    return _OVERHEAD + sys.getsizeof(response.text) + calls + state


def encode(key: str, response: Response[Any], stored: float, *, secret: bytes = b"") -> bytes:
    """`response` as the bytes to store under `key` at the time `stored` (seconds since 1970).

    With a `secret` of at most 64 bytes, the checksum cannot be computed without it.

    Raises:
        TypeError, ValueError, RecursionError: a part cannot be written as JSON.
    """
    usage, state = response.usage, response.state
    text = _encode(
        {
            "text": response.text,
            "usage": [
                usage.input_tokens,
                usage.output_tokens,
                usage.cache_read_tokens,
                usage.cache_write_tokens,
                usage.reasoning_tokens,
            ],
            "model": response.model,
            "provider": response.provider,
            "finish_reason": response.finish_reason,
            "tool_calls": [[c.id, c.name, dict(c.arguments)] for c in response.tool_calls],
            "response_id": response.response_id,
            "reasoning": response.reasoning,
            **({} if state is None else {"state": state.to_dict()}),
            "model_id": response.model_id,
        }
    )
    body = _TIME.pack(stored) + text.encode("utf-8", "surrogatepass")
    return b"".join((_MAGIC, bytes((VERSION,)), _checksum(key, body, secret), body))


def decode(key: str, data: Any, *, secret: bytes = b"") -> tuple[Response[Any], float]:
    """The response in `data`, and the time at which it was stored.

    Raises:
        CacheFault: the entry is ``foreign`` (not ours), ``newer`` (of another version) or
            ``corrupt``.
    """
    if type(data) is not bytes or data[: len(_MAGIC)] != _MAGIC:
        raise CacheFault("foreign", "ignored an entry that was not written by agentkit")
    if data[len(_MAGIC) : _HEAD] != bytes((VERSION,)):
        raise CacheFault("newer", "ignored an entry in the format of another version")
    body = data[_BODY:]
    if not compare_digest(data[_HEAD:_BODY], _checksum(key, body, secret)):
        raise CacheFault("corrupt", "ignored an entry that does not match its checksum")
    try:
        (stored,) = _TIME.unpack_from(body)
        fields, _ = _decode(body[_TIME.size :].decode("utf-8", "surrogatepass"))
        response: Response[Any] = Response(
            text=fields["text"],
            usage=Usage(*fields["usage"]),
            model=fields["model"],
            provider=fields["provider"],
            finish_reason=fields["finish_reason"],
            tool_calls=tuple(ToolCall(*call) for call in fields["tool_calls"]),
            cached=True,
            response_id=fields["response_id"],
            reasoning=fields.get("reasoning", ""),
            state=ProviderState.from_dict(fields["state"]) if "state" in fields else None,
            model_id=fields.get("model_id"),
        )
    except (ValueError, KeyError, TypeError, struct.error, RecursionError):
        raise CacheFault("corrupt", "ignored an entry that cannot be decoded") from None
    return response, stored


def _checksum(key: str, body: bytes, secret: bytes) -> bytes:
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_DIGEST, key=secret)
    digest.update(b"\0")
    digest.update(body)
    return digest.digest()
