"""Streamed answers of Bedrock: text, with the events of the service beside it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import pairwise
from typing import Any, Self

from agentkit.bedrock import results
from agentkit.bedrock.attempts import RequestAttempt
from agentkit.bedrock.messages.content import Citation, ReasoningContent, ToolUse
from agentkit.bedrock.targets import Targets, split_name
from agentkit.engine.drivers.streams import AsyncStream, Stream
from agentkit.errors import LLMError
from agentkit.providers.bedrock.usage import BedrockUsage
from agentkit.types import End, RawEvent, ReasoningDelta, StreamEvent, TextDelta, ToolCall
from agentkit.types.context import AsyncClosing, Closing
from agentkit.types.ledger import Ledger


class StreamChunk(str):
    """A chunk of the answer's text (empty for other events), with the service's own `event`.

    It can also be read like the event, with or without the inner name:
    ``chunk["contentBlockDelta"]["delta"]["text"]``, ``chunk["contentBlockDelta"]["text"]``.
    """

    __slots__ = ("event",)
    event: Mapping[str, Any]

    def __new__(cls, text: str, event: Mapping[str, Any]) -> Self:
        """A chunk of `text` from `event`."""
        made = super().__new__(cls, text)
        made.event = event
        return made

    def __getitem__(self, key: Any) -> Any:
        return _opened(self.event[key]) if isinstance(key, str) else super().__getitem__(key)

    def get(self, name: str, default: Any = None) -> Any:
        """A field of the event, like `dict.get`."""
        return self[name] if name in self.event else default


class _StreamState:
    """What a stream has delivered so far; the same for sync and async."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._began: float | None = None
        self._first: float | None = None
        self._last: float | None = None
        self._parts: list[str] = []
        self._reasoning: list[str] = []
        self._events: list[Mapping[str, Any]] = []
        self._calls: tuple[ToolCall, ...] = ()
        self._stop: str | None = None
        self._metadata: Mapping[str, Any] = {}
        self._details: Mapping[str, Any] = {}
        self._complete = False
        self._error: Exception | None = None
        self._ledger = Ledger()

    @property
    def success(self) -> bool:
        """Whether the answer is complete."""
        return self._complete

    @property
    def model_used(self) -> str | None:
        """The name of the model that answers; of a failed stream, the last one tried."""
        return self._details.get("model")

    @property
    def region_used(self) -> str | None:
        """The Region that answers; of a failed stream, the last one tried."""
        return self._details.get("region")

    @property
    def access_method_used(self) -> str | None:
        """How it was reached."""
        return self._details.get("access_method")

    @property
    def attempts(self) -> list[RequestAttempt]:
        """Every request sent; known at the end."""
        return self._targets.attempts(self._ledger)

    @property
    def features_disabled(self) -> list[str]:
        """What was left out of the request."""
        return list(self._details.get("omitted", ()))

    @property
    def stop_reason(self) -> str | None:
        """Why the answer ended, in the service's words."""
        return self._stop

    def get_full_content(self) -> str:
        """The text so far; complete once the stream has ended."""
        return "".join(self._parts)

    def get_content_parts(self) -> list[str]:
        """The chunks of text so far."""
        return list(self._parts)

    def get_stream_errors(self) -> list[Exception]:
        """What went wrong, recovered or not; known at the end."""
        errors = [each.error for each in self.attempts if each.error is not None]
        return [*errors, *([self._error] if self._error is not None else [])]

    def get_tool_uses(self) -> list[ToolUse]:
        """The tool calls of the answer; known at the end."""
        return [ToolUse(each.id, each.name, dict(each.arguments)) for each in self._calls]

    def get_reasoning(self) -> list[ReasoningContent]:
        """The reasoning of the model; never part of the text."""
        return [ReasoningContent("".join(self._reasoning))] if self._reasoning else []

    def get_citations(self) -> list[Citation]:
        """The sources that the answer cites, so far."""
        found = [
            event["contentBlockDelta"]["delta"]["citation"]
            for event in self._events
            if "citation" in ((event.get("contentBlockDelta") or {}).get("delta") or {})
        ]
        return [
            Citation(
                each.get("title"),
                each.get("source"),
                tuple(part["text"] for part in each.get("sourceContent") or () if "text" in part),
                each.get("location") or {},
            )
            for each in found
        ]

    def get_usage(self) -> BedrockUsage | None:
        """Token counts; None before the end."""
        usage = self._metadata.get("usage")
        return BedrockUsage.of(usage) if usage else None

    def get_input_tokens(self) -> int:
        """Input tokens, 0 before the end."""
        return self._tokens("input_tokens")

    def get_output_tokens(self) -> int:
        """Output tokens, 0 before the end."""
        return self._tokens("output_tokens")

    def get_total_tokens(self) -> int:
        """All tokens, 0 before the end."""
        return self._tokens("total_tokens")

    def _tokens(self, name: str) -> int:
        usage = self.get_usage()
        return 0 if usage is None else usage[name]

    def get_guardrail_trace(self) -> dict[str, Any] | None:
        """The trace of the guardrail, if it was requested."""
        trace = self._metadata.get("trace") or {}
        return trace.get("guardrail")

    def get_metrics(self) -> dict[str, Any]:
        """Times in milliseconds, counts, and the latency that the service measured."""
        began, first, last = self._began, self._first, self._last

        def since(moment: float | None) -> float | None:
            return None if moment is None or began is None else 1000.0 * (moment - began)

        span = None if first is None or last is None else 1000.0 * (last - first)
        return {
            "api_latency_ms": (self._metadata.get("metrics") or {}).get("latencyMs"),
            "total_duration_ms": since(last),
            "time_to_first_token_ms": since(first),
            "time_to_last_token_ms": since(last),
            "token_generation_duration_ms": span,
            "content_parts": len(self._parts),
            "stream_position": len(self.get_full_content()),
            "stream_errors": len(self.get_stream_errors()),
        }

    def is_streaming_complete(self) -> bool:
        """Whether the answer is complete."""
        return self._complete

    def get_target_switches(self) -> int:
        """How often another target was tried; known at the end."""
        return sum(one.model != other.model for one, other in pairwise(self._ledger.sent))

    def get_recovery_info(self) -> dict[str, Any]:
        """The number of errors, how many were recovered, and where the answer came from."""
        errors = len(self.get_stream_errors())
        return {
            "total_exceptions": errors,
            "recovered_exceptions": errors if self._complete else 0,
            "target_switches": self.get_target_switches(),
            "recovery_enabled": True,
            "final_model": self.model_used,
            "final_region": self.region_used,
            "partial_content_preserved": bool(self._parts),
        }

    def _take(self, event: StreamEvent) -> StreamChunk | None:
        """The chunk of one of the engine's events, if it has one."""
        if isinstance(event, TextDelta):
            self._last = time.monotonic()
            self._first = self._first or self._last
            self._parts.append(event.text)
            return self._seen(event.text, event.raw or _delta({"text": event.text}))
        if isinstance(event, ReasoningDelta):
            self._reasoning.append(event.text)
            return self._seen("", _delta({"reasoningContent": {"text": event.text}}))
        if isinstance(event, RawEvent):
            self._details = event.details or self._details
            self._stop = (event.raw.get("messageStop") or {}).get("stopReason") or self._stop
            self._metadata = event.raw.get("metadata") or self._metadata
            return self._seen("", event.raw)
        if isinstance(event, End):
            self._calls = event.tool_calls
        return None

    def _seen(self, text: str, raw: Mapping[str, Any]) -> StreamChunk:
        self._events.append(raw)
        return StreamChunk(text, raw)

    def _start(self) -> None:
        if self._began is None:
            self._began = time.monotonic()

    def _done(self, ledger: Ledger) -> None:
        self._complete = True
        self._ledger = ledger

    def _failed(self, error: LLMError) -> LLMError:
        """What to raise in place of `error`."""
        self._error = error
        self._ledger = error.ledger or self._ledger
        if self._ledger.sent:
            last = self._ledger.sent[-1]
            model, region = split_name(last.model)
            self._details = {"model": model, "region": region, **(last.details or {})}
        return results.final_error(error, results.failure(self._ledger, self._targets))


class StreamingResponse(_StreamState, Closing):
    """A streamed answer: iterate it for text, or `events()` for everything.

    A context manager; leaving it early closes the connection. Nothing is sent before the first
    chunk is requested.
    """

    def __init__(self, stream: Stream, targets: Targets) -> None:
        super().__init__(targets)
        self._stream = stream
        self._source = self._chunks()

    def __iter__(self) -> Iterator[StreamChunk]:
        return self._source

    def __next__(self) -> StreamChunk:
        return next(self._source)

    def events(self) -> Iterator[Mapping[str, Any]]:
        """The events of the service, in order."""
        for chunk in self._source:
            yield chunk.event

    def close(self) -> None:
        """Close the connection; the attempt does not count as a failure."""
        self._stream.close()

    def _chunks(self) -> Iterator[StreamChunk]:
        self._start()
        try:
            for event in self._stream.events():
                if (chunk := self._take(event)) is not None:
                    yield chunk
        except LLMError as error:
            shown = self._failed(error)
            raise shown from (None if shown is error else error)
        self._done(self._stream.response.ledger)


class AsyncStreamingResponse(_StreamState, AsyncClosing):
    """Like `StreamingResponse`, for ``async for`` and ``async with``."""

    def __init__(self, stream: AsyncStream, targets: Targets) -> None:
        super().__init__(targets)
        self._stream = stream
        self._source = self._chunks()

    def __aiter__(self) -> AsyncIterator[StreamChunk]:
        return self._source

    async def __anext__(self) -> StreamChunk:
        return await anext(self._source)

    async def events(self) -> AsyncIterator[Mapping[str, Any]]:
        """The events of the service, in order."""
        async for chunk in self._source:
            yield chunk.event

    async def aclose(self) -> None:
        """Close the connection; the attempt does not count as a failure."""
        await self._stream.aclose()

    async def _chunks(self) -> AsyncIterator[StreamChunk]:
        self._start()
        try:
            async for event in self._stream.events():
                if (chunk := self._take(event)) is not None:
                    yield chunk
        except LLMError as error:
            shown = self._failed(error)
            raise shown from (None if shown is error else error)
        self._done(self._stream.response.ledger)


def _delta(delta: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"contentBlockDelta": {"contentBlockIndex": 0, "delta": delta}}


def _opened(value: Any) -> Any:
    """The fields of an event, with those of its delta or start added."""
    inner = (value.get("delta") or value.get("start")) if isinstance(value, Mapping) else None
    return {**inner, **value} if inner else value
