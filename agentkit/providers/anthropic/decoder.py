"""Responses and stream events of Anthropic's messages API."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agentkit.providers.anthropic.encoder import ANSWER_TOOL
from agentkit.providers.response_fields import (
    ReportedError,
    check_content,
    quota_from_headers,
    refusal,
    token_count,
    tool_call,
)
from agentkit.providers.state import Item, state_of
from agentkit.providers.transport.base import Reply
from agentkit.types import End, ReasoningDelta, Response, StreamEvent, TextDelta, ToolCall, Usage

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "model_context_window_exceeded": "length",
}
_THINKING_BLOCKS = ("thinking", "redacted_thinking")


def decode(reply: Reply, *, model: str, origin: str) -> Response[Any]:
    """A complete response.

    Raises:
        ContentFilterError: the model declined.
        InvalidResponseError: it has no content.
        ReportedError: it is an error.
    """
    message = reply.content
    error = getattr(message, "error", None)
    if isinstance(error, Mapping):
        raise ReportedError(error)
    usage = _usage(message.usage)
    if message.stop_reason == "refusal":
        raise refusal(model, usage)
    texts: list[str] = []
    reasoning: list[str] = []
    items: list[Item] = []
    calls: list[ToolCall] = []
    for block in message.content or ():
        if block.type == "text":
            texts.append(block.text)
            items.append({"text": len(block.text)})
        elif block.type in _THINKING_BLOCKS:
            items += _thinking(block.to_dict())
            reasoning.append(getattr(block, "thinking", None) or "")
        elif block.type == "tool_use":
            calls.append(tool_call(block.id, block.name, block.input))
            items.append({"call": True})
    text, tool_calls = _split_answer("".join(texts), calls)
    finish_reason = _finish_reason(message.stop_reason, tool_calls)
    check_content(
        model,
        finish_reason,
        answered=bool(text) or any(map(_is_answer, message.content or ())),
        reasoned=any(reasoning),
        usage=usage,
    )
    return Response(
        text,
        usage=usage,
        finish_reason=finish_reason,
        tool_calls=tool_calls,
        response_id=message.id,
        reasoning="".join(reasoning),
        quota=quota_from_headers(reply.headers),
        state=state_of(origin, items),
        model_id=getattr(message, "model", None),
    )


class MessagesStreamDecoder:
    """Decodes the events of one stream."""

    def __init__(
        self,
        headers: Mapping[str, str],
        *,
        model: str,
        origin: str,
    ) -> None:
        self._headers = headers
        self._model = model
        self._origin = origin
        self._id: str | None = None
        self._model_id: str | None = None
        self._stop_reason: str | None = None
        self._usage = Usage()
        self._answered = self._reasoned = False
        self._calls: dict[int, dict[str, Any]] = {}
        self._texts: dict[int, int] = {}
        self._thinking_blocks: dict[int, dict[str, Any]] = {}

    def events(self, event: Any) -> Iterator[StreamEvent]:
        """The stream events in one event.

        Raises:
            ContentFilterError: the model declined.
        """
        kind = event.type
        if kind == "content_block_delta":
            yield from self._delta(event)
        elif kind == "content_block_start":
            self._start_block(event.index, event.content_block)
        elif kind == "message_start":
            self._id = event.message.id
            self._model_id = getattr(event.message, "model", None)
            self._usage = _usage(event.message.usage)
        elif kind == "message_delta":
            self._stop_reason = event.delta.stop_reason or self._stop_reason
            self._usage = _updated_usage(self._usage, event.usage)
        elif kind == "message_stop" and self._stop_reason is not None:
            # Without a stop reason, something between us and the model ended the stream politely.
            yield self._end()

    def end(self) -> Iterable[StreamEvent]:
        """Nothing: the end mark is an event of its own."""
        return ()

    def _start_block(self, index: int, block: Any) -> None:
        self._answered = self._answered or _is_answer(block)
        if block.type == "tool_use":
            self._calls[index] = {"call_id": block.id, "name": block.name, "arguments": ""}
        elif block.type in _THINKING_BLOCKS:
            self._thinking_blocks[index] = block.to_dict()

    def _delta(self, event: Any) -> Iterator[StreamEvent]:
        delta = event.delta
        if delta.type == "text_delta":
            self._texts[event.index] = self._texts.get(event.index, 0) + len(delta.text)
            self._answered = self._answered or bool(delta.text)
            yield TextDelta(delta.text, event)
        elif delta.type == "thinking_delta":
            self._thinking_blocks[event.index]["thinking"] += delta.thinking
            self._reasoned = True
            yield ReasoningDelta(delta.thinking)
        elif delta.type == "signature_delta":
            self._thinking_blocks[event.index]["signature"] = delta.signature
        elif delta.type == "input_json_delta":
            call = self._calls[event.index]
            call["arguments"] += delta.partial_json
            if call["name"] == ANSWER_TOOL:
                yield TextDelta(delta.partial_json, event)

    def _end(self) -> End:
        if self._stop_reason == "refusal":
            raise refusal(self._model, self._usage)
        tool_calls = tuple(
            tool_call(**each)
            for _, each in sorted(self._calls.items())
            if each["name"] != ANSWER_TOOL
        )
        finish_reason = _finish_reason(self._stop_reason, tool_calls)
        check_content(
            self._model,
            finish_reason,
            answered=self._answered,
            reasoned=self._reasoned,
            usage=self._usage,
        )
        return End(
            finish_reason,
            usage=self._usage,
            tool_calls=tool_calls,
            response_id=self._id,
            quota=quota_from_headers(self._headers),
            state=state_of(self._origin, self._items()),
            model_id=self._model_id,
        )

    def _items(self) -> Iterator[Item]:
        """The blocks in order, as a provider state has them."""
        for index in sorted({*self._texts, *self._calls, *self._thinking_blocks}):
            if index in self._thinking_blocks:
                yield from _thinking(self._thinking_blocks[index])
            else:
                yield {"call": True} if index in self._calls else {"text": self._texts[index]}


def _is_answer(block: Any) -> bool:
    """Whether a block is content by itself; one of text may be empty."""
    return block.type not in ("text", *_THINKING_BLOCKS)


def _thinking(block: dict[str, Any]) -> list[Item]:
    """A thinking block as an item; the API takes none back without its signature."""
    signed = block.get("signature") or block["type"] == "redacted_thinking"
    return [{"block": block}] if signed else []


def _finish_reason(stop_reason: str | None, tool_calls: tuple[ToolCall, ...]) -> str | None:
    """The common name of a stop reason; the vendor's own where there is none."""
    if stop_reason == "tool_use" and not tool_calls:
        return "stop"
    return None if stop_reason is None else _FINISH_REASONS.get(stop_reason, stop_reason)


def _usage(usage: Any) -> Usage:
    """Token counts; Anthropic does not include cached tokens in the input, `Usage` does."""
    read = token_count(getattr(usage, "cache_read_input_tokens", 0))
    written = token_count(getattr(usage, "cache_creation_input_tokens", 0))
    details = getattr(usage, "output_tokens_details", None)
    return Usage(
        input_tokens=token_count(getattr(usage, "input_tokens", 0)) + read + written,
        output_tokens=token_count(getattr(usage, "output_tokens", 0)),
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=token_count(getattr(details, "thinking_tokens", 0)),
    )


def _updated_usage(start: Usage, later: Any) -> Usage:
    """The counts of a stream's start with those of its end, as far as the end has any."""
    end = _usage(later)
    return Usage(
        input_tokens=max(start.input_tokens, end.input_tokens),
        output_tokens=end.output_tokens or start.output_tokens,
        cache_read_tokens=max(start.cache_read_tokens, end.cache_read_tokens),
        cache_write_tokens=max(start.cache_write_tokens, end.cache_write_tokens),
        reasoning_tokens=max(start.reasoning_tokens, end.reasoning_tokens),
    )


def _split_answer(text: str, calls: list[ToolCall]) -> tuple[str, tuple[ToolCall, ...]]:
    """The JSON of the forced tool call as the text, and the other calls."""
    for call in calls:
        if call.name == ANSWER_TOOL:
            others = tuple(each for each in calls if each is not call)
            return json.dumps(dict(call.arguments), ensure_ascii=False), others
    return text, tuple(calls)
