"""OpenAI's responses as a wire protocol: JSON, named server-sent events and errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from agentkit.testing.faults import Status
from agentkit.testing.wire.openai import error_body
from agentkit.testing.wire.protocol import (
    Event,
    HttpResponse,
    RecordedRequest,
    corrupt_sse,
    halves,
    sse,
    to_json,
)
from agentkit.types import Response, ToolCall, Usage

_CREATED = 1_700_000_000
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class OpenAIResponses:
    """The protocol of ``POST /v1/responses``."""

    name = "openai-responses"
    stream_type = "text/event-stream; charset=utf-8"
    id_header = "x-request-id"

    def matches(self, method: str, path: str) -> bool:
        """Whether this creates a response."""
        return (method, path) == ("POST", "/v1/responses")

    def parse_call(self, path: str, body: Mapping[str, Any]) -> tuple[str, bool]:
        """Model and streaming, both from the body."""
        return str(body.get("model", "")), body.get("stream") is True

    def answer_other(self, method: str, path: str, models: Sequence[str]) -> HttpResponse | None:
        """None: this API has model calls only."""
        return None

    def encode_response(self, request: RecordedRequest, response: Response[Any]) -> HttpResponse:
        """A ``response`` object."""
        return HttpResponse(200, to_json(_finished(request, response)))

    def encode_stream(
        self, request: RecordedRequest, response: Response[Any], pieces: Sequence[str]
    ) -> Iterator[Event]:
        """``response.created``, the start and deltas of each item, their ends, and the response.

        The start of an item travels with its first piece; the ends of items come before the
        complete response.
        """
        numbers = count()

        def named(kind: str, **fields: Any) -> bytes:
            return sse({"type": kind, "sequence_number": next(numbers), **fields}, event=kind)

        yield Event("opening", named("response.created", response=_frame(request, "in_progress")))
        endings: list[bytes] = []
        for index, item in enumerate(_items(request, response)):
            place = {"output_index": index, "item_id": item["id"]}
            lead = named("response.output_item.added", output_index=index, item=_announced(item))
            if item["type"] == "reasoning":
                summary = {"summary_index": 0, "delta": response.reasoning}
                kind = "response.reasoning_summary_text.delta"
                yield Event("opening", lead + named(kind, **place, **summary))
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
                done = {"name": item["name"], "arguments": item["arguments"]}
                endings.append(named("response.function_call_arguments.done", **place, **done))
            endings.append(named("response.output_item.done", output_index=index, item=item))
        finished = _finished(request, response)
        endings.append(named(f"response.{finished['status']}", response=finished))
        for ending in endings:
            yield Event("ending", ending)

    def encode_error(self, error: Status) -> HttpResponse:
        """OpenAI's ``{"error": {message, type, param, code}}``; `kind` is the code."""
        return HttpResponse(error.code, to_json(error_body(error)))

    def encode_error_event(self, error: Status) -> bytes:
        """``response.failed`` for an error of the server, else an ``error`` event."""
        body = error_body(error)["error"]
        if error.code >= 500:
            fault = {"code": "server_error", "message": body["message"]}
            failed = {**_frame(None, "failed"), "error": fault}
            kind = "response.failed"
            return sse({"type": kind, "sequence_number": 1, "response": failed}, event=kind)
        fields = {"code": body["code"], "message": body["message"], "param": None}
        return sse({"type": "error", "sequence_number": 1, **fields}, event="error")

    def corrupt(self, event: bytes) -> bytes:
        """An event of half a JSON object."""
        return corrupt_sse(event)


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
        message = {"type": "message", "id": f"msg_{request.number}", "role": "assistant"}
        items.append({**message, "status": "completed", "content": [text]})
    return [*items, *(_call(call) for call in response.tool_calls)]


def _announced(item: dict[str, Any]) -> dict[str, Any]:
    """The item as the stream announces it: empty."""
    empty = {"content": [], "summary": [], "arguments": "", "status": "in_progress"}
    return {name: empty.get(name, value) for name, value in item.items()}


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{call.id}",
        "call_id": call.id,
        "name": call.name,
        "arguments": to_json(dict(call.arguments)).decode(),
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
