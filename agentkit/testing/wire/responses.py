"""OpenAI's responses on the wire: JSON, named server-sent events and errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from agentkit.testing.faults import Status
from agentkit.testing.wire.openai import error_body
from agentkit.testing.wire.protocol import (
    Answer,
    Event,
    RecordedRequest,
    break_sse,
    dump,
    halves,
    sse,
)
from agentkit.types import Response, ToolCall, Usage

_CREATED = 1_700_000_000
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class OpenAIResponses:
    """The wire of ``POST /v1/responses``."""

    name = "openai-responses"
    stream_type = "text/event-stream; charset=utf-8"
    id_header = "x-request-id"

    def reads(self, method: str, path: str) -> bool:
        """Whether this creates a response."""
        return (method, path) == ("POST", "/v1/responses")

    def asked(self, path: str, body: Mapping[str, Any]) -> tuple[str, bool]:
        """Model and streaming, both from the body."""
        return str(body.get("model", "")), body.get("stream") is True

    def aside(self, method: str, path: str, models: Sequence[str]) -> Answer | None:
        """Nothing besides model calls."""
        return None

    def answer(self, request: RecordedRequest, response: Response[Any]) -> Answer:
        """A ``response`` object."""
        return Answer(200, dump(_finished(request, response)))

    def events(
        self, request: RecordedRequest, response: Response[Any], pieces: Sequence[str]
    ) -> Iterator[Event]:
        """``response.created``, each item's start and deltas, then its end, and the whole.

        An item's start travels with its first piece; what ends items comes before the whole.
        """
        numbers = count()

        def named(kind: str, **fields: Any) -> bytes:
            return sse({"type": kind, "sequence_number": next(numbers), **fields}, event=kind)

        yield Event("opening", named("response.created", response=_frame(request, "in_progress")))
        endings: list[bytes] = []
        for index, item in enumerate(_items(request, response)):
            place = {"output_index": index, "item_id": item["id"]}
            lead = named("response.output_item.added", output_index=index, item=_begun(item))
            if item["type"] == "reasoning":
                thought = {"summary_index": 0, "delta": response.reasoning}
                kind = "response.reasoning_summary_text.delta"
                yield Event("opening", lead + named(kind, **place, **thought))
            elif item["type"] == "message":
                for piece in pieces:
                    part = {"content_index": 0, "delta": piece, "logprobs": []}
                    yield Event(
                        "content", lead + named("response.output_text.delta", **place, **part)
                    )
                    lead = b""
            else:
                for half in halves(item["arguments"]):
                    kind = "response.function_call_arguments.delta"
                    yield Event("content", lead + named(kind, **place, delta=half))
                    lead = b""
                kind, whole = "response.function_call_arguments.done", item["arguments"]
                endings.append(named(kind, **place, name=item["name"], arguments=whole))
            endings.append(named("response.output_item.done", output_index=index, item=item))
        whole_response = _finished(request, response)
        endings.append(named(f"response.{whole_response['status']}", response=whole_response))
        for ending in endings:
            yield Event("ending", ending)

    def error(self, error: Status) -> Answer:
        """OpenAI's ``{"error": {message, type, param, code}}``; `kind` is the code."""
        return Answer(error.code, dump(error_body(error)))

    def error_event(self, error: Status) -> bytes:
        """``response.failed`` for what the server did wrong, else an ``error`` event."""
        told = error_body(error)["error"]
        if error.code >= 500:
            fault = {"code": "server_error", "message": told["message"]}
            failed = {**_frame(None, "failed"), "error": fault}
            kind = "response.failed"
            return sse({"type": kind, "sequence_number": 1, "response": failed}, event=kind)
        said = {"code": told["code"], "message": told["message"], "param": None}
        return sse({"type": "error", "sequence_number": 1, **said}, event="error")

    def broken(self, event: bytes) -> bytes:
        """An event of half a JSON object."""
        return break_sse(event)


def _frame(request: RecordedRequest | None, status: str) -> dict[str, Any]:
    return {
        "id": f"resp_{request.number if request else 0}",
        "object": "response",
        "created_at": _CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": request.model if request else "",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }


def _finished(request: RecordedRequest, response: Response[Any]) -> dict[str, Any]:
    reason = _INCOMPLETE.get(response.finish_reason or "")
    return {
        **_frame(request, "incomplete" if reason else "completed"),
        "incomplete_details": {"reason": reason} if reason else None,
        "output": _items(request, response),
        "usage": _usage(response.usage),
    }


def _items(request: RecordedRequest, response: Response[Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if response.reasoning:
        summary = [{"type": "summary_text", "text": response.reasoning}]
        items.append({"type": "reasoning", "id": f"rs_{request.number}", "summary": summary})
    if response.text or not response.tool_calls:
        text = {"type": "output_text", "text": response.text, "annotations": [], "logprobs": []}
        items.append({
            "type": "message",
            "id": f"msg_{request.number}",
            "role": "assistant",
            "status": "completed",
            "content": [text],
        })  # fmt: skip
    return [*items, *(_call(call) for call in response.tool_calls)]


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    """The item as it is announced: empty."""
    empty = {"content": [], "summary": [], "arguments": "", "status": "in_progress"}
    return {name: empty.get(name, value) for name, value in item.items()}


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{call.id}",
        "call_id": call.id,
        "name": call.name,
        "arguments": dump(dict(call.arguments)).decode(),
        "status": "completed",
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
