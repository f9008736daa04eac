"""The parts of a Converse response: tool calls, reasoning, citations, stop reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class ResponseContentType(StrEnum):
    """The kinds of blocks in an answer; the values are the keys of the Converse API."""

    TEXT = "text"
    IMAGE = "image"
    DOCUMENT = "document"
    VIDEO = "video"
    AUDIO = "audio"
    TOOL_USE = "toolUse"
    TOOL_RESULT = "toolResult"
    REASONING = "reasoningContent"
    CITATIONS = "citationsContent"
    GUARD = "guardContent"


class StopReasonEnum(StrEnum):
    """Why an answer ended, in the service's words."""

    END_TURN = "end_turn"
    TOOL_USE = "tool_use"
    MAX_TOKENS = "max_tokens"
    STOP_SEQUENCE = "stop_sequence"
    GUARDRAIL_INTERVENED = "guardrail_intervened"
    CONTENT_FILTERED = "content_filtered"
    MALFORMED_MODEL_OUTPUT = "malformed_model_output"
    MALFORMED_TOOL_USE = "malformed_tool_use"
    MODEL_CONTEXT_WINDOW_EXCEEDED = "model_context_window_exceeded"


class StopReasonCategory(StrEnum):
    """What the stop reason of an answer means for another try."""

    TERMINAL = "terminal"
    RETRY_DIFFERENT_TARGET = "retry_different_target"
    RETRYABLE = "retryable"
    UNKNOWN = "unknown"


_CATEGORIES: Final = {
    StopReasonEnum.MALFORMED_MODEL_OUTPUT: StopReasonCategory.RETRYABLE,
    StopReasonEnum.MALFORMED_TOOL_USE: StopReasonCategory.RETRYABLE,
    StopReasonEnum.MODEL_CONTEXT_WINDOW_EXCEEDED: StopReasonCategory.RETRY_DIFFERENT_TARGET,
}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool call."""

    tool_use_id: str
    name: str
    input: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReasoningContent:
    """The reasoning of a model: signed text, or bytes that only the service can read."""

    text: str | None = None
    signature: str | None = None
    redacted_content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Citation:
    """A source that an answer cites; `location` is as the service sent it."""

    title: str | None = None
    source: str | None = None
    source_content: tuple[str, ...] = ()
    location: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CacheDetail:
    """Tokens written to the prompt cache for `ttl`."""

    ttl: str
    input_tokens: int


def category_of(stop_reason: str | None) -> StopReasonCategory:
    """What `stop_reason` means for another try; UNKNOWN for None and for new ones."""
    try:
        return _CATEGORIES.get(StopReasonEnum(stop_reason or ""), StopReasonCategory.TERMINAL)
    except ValueError:
        return StopReasonCategory.UNKNOWN


def blocks_of(data: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The content blocks of a response, in order."""
    message = ((data or {}).get("output") or {}).get("message") or {}
    return list(message.get("content") or ())


def tool_uses_of(blocks: list[dict[str, Any]]) -> list[ToolUse]:
    """The tool calls, in order."""
    uses = (block["toolUse"] for block in blocks if "toolUse" in block)
    return [ToolUse(use["toolUseId"], use["name"], use.get("input") or {}) for use in uses]


def reasoning_of(blocks: list[dict[str, Any]]) -> list[ReasoningContent]:
    """The reasoning, in order."""
    found = []
    for block in (one["reasoningContent"] for one in blocks if "reasoningContent" in one):
        text = block.get("reasoningText") or {}
        found.append(
            ReasoningContent(text.get("text"), text.get("signature"), block.get("redactedContent"))
        )
    return found


def citations_of(blocks: list[dict[str, Any]]) -> list[Citation]:
    """The cited sources, in order."""
    return [
        Citation(
            one.get("title"),
            one.get("source"),
            tuple(part.get("text", "") for part in one.get("sourceContent") or ()),
            one.get("location") or {},
        )
        for block in blocks
        for one in block.get("citationsContent", {}).get("citations") or ()
    ]
