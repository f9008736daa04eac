"""Responses and stream events of OpenAI's responses API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agentkit.providers.openai.chat_decoder import join_text
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

_REASONING_DELTAS = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")
_LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed")
_BETWEEN_SUMMARIES = "\n\n"
_POLICY_CODES = frozenset(
    {"bio_policy", "misalignment_policy_violation", "image_content_policy_violation"}
)
_REQUEST_CODES = (
    *("invalid_", "image_", "empty_image", "unsupported_image", "failed_to_download_image"),
    "data_residency",
)
"""How the codes of a failed response begin that blame the request."""


def decode(reply: Reply, *, model: str, origin: str) -> Response[Any]:
    """A complete response.

    Raises:
        ContentFilterError: the model declined.
        InvalidResponseError: it has no content.
        ReportedError: it is an error.
    """
    response = reply.content
    error = getattr(response, "error", None)
    if error is not None or response.status in ("failed", "cancelled"):
        raise _failure(model, getattr(error, "code", None), getattr(error, "type", None))
    incomplete = getattr(response.incomplete_details, "reason", None)
    usage = _usage(response.usage)
    if incomplete == "content_filter":
        raise refusal(model, usage)
    texts: list[str] = []
    reasoning: list[str] = []
    tool_calls: list[ToolCall] = []
    for item in response.output or ():
        if item.type == "message":
            texts.extend(_texts(item, model, usage))
        elif item.type == "reasoning":
            reasoning.extend(each.text for each in item.summary or item.content or ())
        elif item.type == "function_call":
            tool_calls.append(tool_call(item.call_id, item.name, item.arguments))
    finish_reason = _finish_reason(response.status, incomplete, tool_calls)
    check_content(
        model,
        finish_reason,
        answered=any(texts) or bool(tool_calls),
        reasoned=any(reasoning),
        usage=usage,
    )
    return Response(
        "".join(texts),
        usage=usage,
        finish_reason=finish_reason,
        tool_calls=tuple(tool_calls),
        response_id=response.id,
        reasoning=_BETWEEN_SUMMARIES.join(reasoning),
        quota=quota_from_headers(reply.headers),
        state=state_of(origin, _items(response.output or ())),
        model_id=getattr(response, "model", None),
    )


class ResponsesStreamDecoder:
    """Decodes the events of one stream, whose last one repeats the complete response."""

    def __init__(self, headers: Mapping[str, str], *, model: str, origin: str) -> None:
        self._headers = headers
        self._model = model
        self._origin = origin
        self._refused = False

    def events(self, event: Any) -> Iterator[StreamEvent]:
        """The stream events in one event.

        Raises:
            ContentFilterError: the model declined.
            ReportedError: it is an error.
        """
        kind = event.type
        if kind == "response.output_text.delta":
            yield TextDelta(join_text(event.delta), event)
        elif kind in _REASONING_DELTAS:
            yield ReasoningDelta(event.delta)
        elif kind == "response.reasoning_summary_part.added" and event.summary_index:
            yield ReasoningDelta(_BETWEEN_SUMMARIES)
        elif kind == "response.refusal.delta":
            self._refused = True  # the last event has the tokens
        elif kind == "error":
            raise _failure(self._model, event.code)
        elif kind in _LAST_EVENTS:
            yield self._end(event.response)

    def end(self) -> Iterable[StreamEvent]:
        """Nothing: the end mark is an event of its own.

        Raises:
            ContentFilterError: the model declined, and the last event is missing.
        """
        if self._refused:
            raise refusal(self._model)
        return ()

    def _end(self, content: Any) -> End:
        response = decode(Reply(content, self._headers), model=self._model, origin=self._origin)
        return End(
            response.finish_reason,
            usage=response.usage,
            tool_calls=response.tool_calls,
            response_id=response.response_id,
            quota=response.quota,
            state=response.state,
            model_id=response.model_id,
        )


def _items(output: Sequence[Any]) -> Iterator[Item]:
    """The output as the items of a provider state.

    The API takes reasoning back only with its encrypted content, and together with the ids of what
    followed it; without such reasoning, the ids are left out.
    """
    reasoning = [each for each in output if each.type == "reasoning"]
    encrypted = bool(reasoning) and all(each.encrypted_content for each in reasoning)
    for item in output:
        if item.type == "message":
            names = ("id", "status", "phase") if encrypted else ("phase",)
            own = {name: getattr(item, name, None) for name in names}
            own = {name: value for name, value in own.items() if value is not None}
            text = sum(len(part.text) for part in item.content if part.type == "output_text")
            yield {"text": text, **own}
        elif item.type == "function_call":
            yield {"call": True, "id": item.id} if encrypted and item.id else {"call": True}
        elif item.type == "reasoning" and encrypted:
            yield {"block": item.to_dict(exclude_none=True)}


def _texts(message: Any, model: str, usage: Usage) -> Iterator[str]:
    for part in message.content:
        if part.type == "refusal":
            raise refusal(model, usage)
        if part.type == "output_text":
            yield part.text


def _failure(model: str, code: Any, kind: Any = None) -> Exception:
    """What the code and the type of an error inside a response mean."""
    if code in _POLICY_CODES:
        return refusal(model)
    if isinstance(code, str) and code.startswith(_REQUEST_CODES):
        kind = "invalid_request_error"
    return ReportedError({"code": code, "type": kind or "api_error"})


def _finish_reason(status: Any, incomplete: str | None, tool_calls: list[ToolCall]) -> str:
    if incomplete is None and status == "incomplete":
        return "incomplete"  # it says no more than that
    if incomplete is not None:
        return "length" if incomplete == "max_output_tokens" else incomplete
    return "tool_calls" if tool_calls else "stop"


def _usage(usage: Any) -> Usage:
    inputs = getattr(usage, "input_tokens_details", None)
    outputs = getattr(usage, "output_tokens_details", None)
    return Usage(
        input_tokens=token_count(getattr(usage, "input_tokens", 0)),
        output_tokens=token_count(getattr(usage, "output_tokens", 0)),
        cache_read_tokens=token_count(getattr(inputs, "cached_tokens", 0)),
        cache_write_tokens=token_count(getattr(inputs, "cache_write_tokens", 0)),
        reasoning_tokens=token_count(getattr(outputs, "reasoning_tokens", 0)),
    )
