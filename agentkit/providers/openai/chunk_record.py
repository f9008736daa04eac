"""Chat completions and their chunks, typed for msgspec: an answer has hundreds of chunks.

Fields that the API does not document, or documents as open, are of any type; the decoder checks
what it reads. One of another structure is read as a `Record` instead.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from agentkit.providers.transport.http import Record


class _Function(Struct, gc=False):
    name: Any = None
    arguments: Any = None


class _ToolCall(Struct, gc=False):
    index: Any = None
    id: Any = None
    type: Any = None
    function: _Function | None = None
    extra_content: Any = None


class _Delta(Struct, gc=False):
    role: Any = None
    content: Any = None
    refusal: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: Any = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct, gc=False):
    index: Any = None
    delta: _Delta | None = None
    finish_reason: Any = None
    logprobs: Any = None


class ChunkRecord(Struct, gc=False):
    """A ``chat.completion.chunk`` object."""

    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    choices: list[_Choice] | None = None
    usage: Any = None
    x_groq: Any = None
    error: Any = None

    def __post_init__(self) -> None:
        if type(self.usage) is dict:
            self.usage = Record(self.usage)
        if type(self.x_groq) is dict:
            self.x_groq = Record(self.x_groq)


class _TokenDetails(Struct, gc=False):
    cached_tokens: Any = None
    cache_write_tokens: Any = None
    reasoning_tokens: Any = None


class _Usage(Struct, gc=False):
    prompt_tokens: Any = None
    completion_tokens: Any = None
    prompt_tokens_details: _TokenDetails | None = None
    completion_tokens_details: _TokenDetails | None = None


class _CompleteChoice(Struct, gc=False):
    message: _Delta
    finish_reason: Any = None


class CompletionRecord(Struct, gc=False):
    """A ``chat.completion`` object with what its decoder reads."""

    choices: list[_CompleteChoice]
    id: Any = None
    model: Any = None
    usage: _Usage | None = None
    error: Any = None
