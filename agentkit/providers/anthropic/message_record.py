"""Anthropic's messages, typed for msgspec.

A message with a block of another kind, such as the result of a server's tool, is read as a `Record`
instead. So is one whose thinking has a field that is not listed here: the API wants it back
unchanged.
"""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct, to_builtins


class _Text(Struct, gc=False, tag="text"):
    type: ClassVar[str] = "text"
    text: str


class _ToolUse(Struct, gc=False, tag="tool_use"):
    type: ClassVar[str] = "tool_use"
    id: Any = None
    name: Any = None
    input: Any = None


class _Block(Struct, gc=False, forbid_unknown_fields=True):
    """A block that is sent back."""

    def to_dict(self) -> dict[str, Any]:
        """The block as plain data."""
        return dict(to_builtins(self))


class _Thinking(_Block, gc=False, tag="thinking"):
    type: ClassVar[str] = "thinking"
    thinking: str
    signature: str


class _RedactedThinking(_Block, gc=False, tag="redacted_thinking"):
    type: ClassVar[str] = "redacted_thinking"
    data: str


class _OutputDetails(Struct, gc=False):
    thinking_tokens: Any = None


class _Usage(Struct, gc=False):
    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None
    output_tokens_details: _OutputDetails | None = None


class MessageRecord(Struct, gc=False):
    """A ``message`` object with what its decoder reads."""

    content: list[_Text | _ToolUse | _Thinking | _RedactedThinking]
    id: Any = None
    model: Any = None
    stop_reason: Any = None
    usage: _Usage | None = None
    error: Any = None
