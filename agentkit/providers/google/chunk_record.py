"""The chunks of generateContent, typed for msgspec, with the SDK's names: an answer has hundreds.

A chunk with a field that is not listed here, such as one about a refused prompt, is read as a
`Record` instead, so that nothing is left out of ``TextDelta.raw``.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class _Typed(Struct, gc=False, forbid_unknown_fields=True, rename="camel"):
    """A JSON object of Google."""


class _FunctionCall(_Typed, gc=False):
    id: Any = None
    name: Any = None
    args: Any = None


class _Part(_Typed, gc=False):
    text: str | None = None
    thought: bool | None = None
    thought_signature: bytes | None = None
    function_call: _FunctionCall | None = None


class _Content(_Typed, gc=False):
    parts: list[_Part] | None = None
    role: Any = None


class _Candidate(_Typed, gc=False):
    content: _Content | None = None
    finish_reason: Any = None
    finish_message: Any = None
    index: Any = None
    safety_ratings: Any = None
    citation_metadata: Any = None
    token_count: Any = None
    avg_logprobs: Any = None


class _Usage(_Typed, gc=False):
    prompt_token_count: Any = None
    candidates_token_count: Any = None
    total_token_count: Any = None
    thoughts_token_count: Any = None
    tool_use_prompt_token_count: Any = None
    cached_content_token_count: Any = None
    prompt_tokens_details: Any = None
    candidates_tokens_details: Any = None
    cache_tokens_details: Any = None
    tool_use_prompt_tokens_details: Any = None
    traffic_type: Any = None
    service_tier: Any = None

    def __bool__(self) -> bool:
        """Whether it has a count; an empty object replaces no earlier one."""
        return not (
            self.prompt_token_count is None
            and self.total_token_count is None
            and self.candidates_token_count is None
            and self.thoughts_token_count is None
        )


class ChunkRecord(_Typed, gc=False):
    """A ``GenerateContentResponse``, one chunk of a stream."""

    candidates: list[_Candidate] | None = None
    usage_metadata: _Usage | None = None
    model_version: Any = None
    response_id: Any = None
    create_time: Any = None
    prompt_feedback: None = None
    error: Any = None
