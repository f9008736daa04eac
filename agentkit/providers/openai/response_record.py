"""The responses of OpenAI's responses API, typed for msgspec.

A response that failed, or with an item of another kind, such as a search, is read as a `Record`
instead. So is one whose reasoning has a field that is not listed here: the API wants it back
unchanged.
"""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct, to_builtins


class _OutputText(Struct, gc=False, tag="output_text"):
    type: ClassVar[str] = "output_text"
    text: str


class _Refusal(Struct, gc=False, tag="refusal"):
    type: ClassVar[str] = "refusal"


class _Message(Struct, gc=False, tag="message"):
    type: ClassVar[str] = "message"
    content: list[_OutputText | _Refusal]
    id: Any = None
    status: Any = None
    phase: Any = None


class _FunctionCall(Struct, gc=False, tag="function_call"):
    type: ClassVar[str] = "function_call"
    id: Any = None
    call_id: Any = None
    name: Any = None
    arguments: Any = None


class _SummaryText(Struct, gc=False, tag="summary_text", forbid_unknown_fields=True):
    text: str


class _ReasoningText(Struct, gc=False, tag="reasoning_text", forbid_unknown_fields=True):
    text: str


class _Reasoning(Struct, gc=False, tag="reasoning", forbid_unknown_fields=True, omit_defaults=True):
    type: ClassVar[str] = "reasoning"
    id: str
    summary: list[_SummaryText]
    content: list[_ReasoningText] | None = None
    encrypted_content: str | None = None
    status: str | None = None

    def to_dict(self, *, exclude_none: bool) -> dict[str, Any]:
        """The item as plain data; without fields that are None, whatever `exclude_none` says."""
        return dict(to_builtins(self))


class _Incomplete(Struct, gc=False):
    reason: Any = None


class _InputDetails(Struct, gc=False):
    cached_tokens: Any = None
    cache_write_tokens: Any = None


class _OutputDetails(Struct, gc=False):
    reasoning_tokens: Any = None


class _Usage(Struct, gc=False):
    input_tokens: Any = None
    output_tokens: Any = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class ResponseRecord(Struct, gc=False):
    """A ``response`` object with what its decoder reads."""

    output: list[_Message | _FunctionCall | _Reasoning]
    id: Any = None
    model: Any = None
    status: Any = None
    error: None = None
    incomplete_details: _Incomplete | None = None
    usage: _Usage | None = None
