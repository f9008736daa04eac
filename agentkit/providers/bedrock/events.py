"""The events of ConverseStream as the engine's, and their way from a thread to an event loop."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from agentkit.errors import ContentFilterError, InvalidResponseError, PoolExhaustedError
from agentkit.providers.bedrock.encoding import items_of
from agentkit.providers.bedrock.errors import PROVIDER
from agentkit.providers.bedrock.usage import BedrockUsage
from agentkit.providers.response_fields import check_content, json_arguments
from agentkit.providers.state import state_of
from agentkit.types import End, RawEvent, ReasoningDelta, StreamEvent, TextDelta, ToolCall, Usage
from agentkit.types.initializer import fast_maker

_FINISH: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
}
_MALFORMED: Final = frozenset({"malformed_model_output", "malformed_tool_use"})
_CONTENT: Final = frozenset(
    {"contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop"}
)
_text_delta = fast_maker(TextDelta(""), "text", "raw")
UNREADABLE: Final = (struct.error, KeyError, ValueError, TypeError, AttributeError)
"""Errors botocore raises for a well-formed frame with invalid content."""


def finish_of(stop: str | None, model: str, usage: Usage) -> str | None:
    """The engine's finish reason for a ``stopReason``; `usage` is that of its error.

    The text of a guardrail that intervened counts as an answer.

    Raises:
        ContentFilterError: the provider of the model withheld the answer.
        InvalidResponseError: the service calls the answer malformed.
    """
    if stop == "content_filtered":
        error = ContentFilterError(f"{model} declined to answer", provider=PROVIDER, model=model)
        error.usage = usage
        raise error
    if stop in _MALFORMED:
        raise invalid_response(model, f"gave up: {stop}")
    return _FINISH.get(stop or "", stop)


def invalid_response(model: str, problem: str) -> InvalidResponseError:
    """The error of an unusable response."""
    return InvalidResponseError(f"{model} {problem}", provider=PROVIDER, model=model)


class EventReader:
    """The engine's events for the service's, of one stream.

    Text blocks are a line each, as in a complete answer. The end mark comes once the stream is
    over, and only if it had its ``messageStop``.

    Args:
        model: who answers, for messages.
        origin: of the provider state.
        details: what the first and the last event say about the attempt.
        trims_start: whether white space at the beginning was shown before and is not shown again.
    """

    def __init__(
        self,
        model: str,
        *,
        origin: str,
        details: Mapping[str, Any] | None = None,
        trims_start: bool = False,
    ) -> None:
        self.error: Exception | None = None
        """What is wrong with the last events of `read_list`."""
        self._model = model
        self._origin = origin
        self._details = details or {}
        self._trims_start = trims_start
        self._started = False
        self._answered = False
        self._block: int | None = None
        """The block of the last text, which may continue; None after the end of the answer."""
        self._stop: str | None = None
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, dict[str, str]] = {}
        self._texts: dict[int, list[str]] = {}
        """The pieces of text by block: one long text would be copied for each."""
        self._reasoning: dict[int, dict[str, Any]] = {}

    def read(self, source: Iterable[dict[str, Any]]) -> Iterator[StreamEvent]:
        """The engine's events for those of `source`, the SDK's event stream or a part of one.

        Raises:
            InvalidResponseError: a frame makes no sense or comes out of order. What `source` raises
                otherwise passes through.
        """
        events = iter(source)
        while True:
            try:
                read = self._read(next(events))
            except StopIteration:
                return
            except UNREADABLE as error:
                raise self.unreadable() from error
            yield read

    def read_list(self, together: Sequence[dict[str, Any]]) -> list[StreamEvent]:
        """Like `read`, for events that arrived together, up to the fault kept in `error`."""
        found: list[StreamEvent] = []
        try:
            for event in together:
                found.append(self._next_text(event) or self._read(event))  # noqa: PERF401 - a fault
        except Exception as exc:  # noqa: BLE001 - raised after the events before it
            self.error = exc
        return found

    def unreadable(self) -> InvalidResponseError:
        """The error for an exception of `UNREADABLE`."""
        return invalid_response(self._model, "sent an invalid frame")

    def _next_text(self, event: dict[str, Any]) -> TextDelta | None:
        """The next piece of the text that the last event had, too, as most events are.

        `_read` does the same, and everything else.
        """
        found = event.get("contentBlockDelta")
        block = self._block
        if found is None or block is None or len(event) > 1:
            return None
        delta = found.get("delta")
        if not delta or len(delta) > 1 or found.get("contentBlockIndex") != block:
            return None
        text: str | None = delta.get("text")
        if not text:
            return None
        self._texts[block].append(text)
        return _text_delta(text, event)

    def _read(self, event: dict[str, Any]) -> StreamEvent:
        self._check_order(event)
        delta = self._delta(event)
        self._collect(event, delta)
        if text := self._text(event, delta):
            return TextDelta(text, event)
        if reasoning := (delta.get("reasoningContent") or {}).get("text"):
            return ReasoningDelta(reasoning)
        return RawEvent(event, self._details if "messageStart" in event else None)

    def end(self, response_id: str | None) -> Iterator[End]:
        """The end mark, if the stream had one; `response_id` is the service's id of the request."""
        if self._stop is None:
            return
        usage = BedrockUsage.of(self._usage).to_usage()
        finish = finish_of(self._stop, self._model, usage)
        calls = tuple(
            ToolCall(each["id"], each["name"], json_arguments(each["input"], each["name"]))
            for _, each in sorted(self._calls.items())
        )
        check_content(
            self._model,
            finish,
            answered=self._answered or bool(calls) or finish not in ("stop", "length"),
            reasoned=bool(self._reasoning),
            usage=usage,
        )
        yield End(
            finish,
            usage=usage,
            tool_calls=calls,
            response_id=response_id,
            omitted=tuple(self._details.get("omitted", ())),
            details=self._details,
            model_id=self._details.get("model_id"),
            state=state_of(self._origin, items_of(self._blocks())),
        )

    def _blocks(self) -> Iterator[dict[str, Any]]:
        """The blocks of the answer in order, as a complete response has them; calls are empty."""
        for index in sorted({*self._texts, *self._calls, *self._reasoning}):
            if index in self._reasoning:
                yield {"reasoningContent": _reasoning_block(self._reasoning[index])}
            else:
                calls = {"toolUse": self._calls.get(index)}
                yield calls if index in self._calls else {"text": "".join(self._texts[index])}

    def _text(self, event: dict[str, Any], delta: dict[str, Any]) -> str:
        text: str = delta.get("text") or ""
        if self._trims_start:
            text = text.lstrip()
            self._trims_start = not text
        if not text:
            return ""
        block = event["contentBlockDelta"].get("contentBlockIndex", 0)
        begins_line = self._block not in {None, block}
        self._texts.setdefault(block, []).append(text)
        self._block = block
        return f"\n{text}" if begins_line else text

    def _check_order(self, event: dict[str, Any]) -> None:
        """A frame that is missing or out of place may mean that text is missing."""
        if "messageStart" in event:
            if self._started:
                raise invalid_response(self._model, "started its answer twice")
            self._started = True
        elif not _CONTENT.isdisjoint(event):
            if not self._started:
                raise invalid_response(self._model, "sent content before the start of its answer")
            if self._stop is not None:
                raise invalid_response(self._model, "sent content after the end of its answer")

    def _delta(self, event: dict[str, Any]) -> dict[str, Any]:
        if "contentBlockDelta" not in event:
            return {}
        delta: dict[str, Any] | None = event["contentBlockDelta"].get("delta")
        if not delta:
            raise invalid_response(self._model, "sent an empty content delta")
        self._answered = self._answered or any(
            value for name, value in delta.items() if name != "reasoningContent"
        )
        return delta

    def _collect(self, event: dict[str, Any], delta: dict[str, Any]) -> None:
        start = event.get("contentBlockStart") or {}
        use = (start.get("start") or {}).get("toolUse")
        if use is not None:
            index = start.get("contentBlockIndex", len(self._calls))
            self._calls[index] = {"id": use["toolUseId"], "name": use["name"], "input": ""}
        elif "toolUse" in delta:
            index = event["contentBlockDelta"].get("contentBlockIndex", 0)
            if index not in self._calls:
                raise invalid_response(
                    self._model, "sent the arguments of a tool call before its name"
                )
            self._calls[index]["input"] += delta["toolUse"].get("input", "")
        elif reasoning := delta.get("reasoningContent"):
            index = event["contentBlockDelta"].get("contentBlockIndex", 0)
            sent = self._reasoning.setdefault(index, {})
            for name, value in reasoning.items():
                sent[name] = sent[name] + value if name in sent else value
        elif "messageStop" in event:
            self._stop = event["messageStop"].get("stopReason") or "end_turn"
            self._block = None
        elif "metadata" in event:
            self._usage = event["metadata"].get("usage") or {}


def _reasoning_block(deltas: dict[str, Any]) -> dict[str, Any]:
    if "redactedContent" in deltas:
        return {"redactedContent": deltas["redactedContent"]}
    return {"reasoningText": {"text": "", **deltas}}


class Relay:
    """Passes the events of a stream from the thread that reads it to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, item: StreamEvent | BaseException | None) -> None:
        """Pass the next event, the error that ended the stream, or None at its end."""
        with suppress(RuntimeError):  # the loop is closed: no one is listening
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    def end_if_cancelled(self, reader: Future[None]) -> None:
        """End the events if the job `reader` that would read them never begins."""
        if reader.cancelled():
            self.put(PoolExhaustedError("the clients were closed before the stream was opened"))

    async def __aiter__(self) -> AsyncIterator[StreamEvent]:
        while (item := await self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
