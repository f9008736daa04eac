"""Responses and stream chunks of OpenAI's chat completions API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentkit.errors import InvalidResponseError
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
from agentkit.types import (
    End,
    ProviderState,
    ReasoningDelta,
    Response,
    StreamEvent,
    TextDelta,
    Usage,
)

_REASONING_NAMES = ("reasoning_content", "reasoning")
_DETAILS = "reasoning_details"
_OF_A_CALL = "extra_content"
"""Where Gemini's chat completions have the thought signature of a call."""


def decode(reply: Reply, *, model: str, origin: str, daily_requests: bool) -> Response[Any]:
    """A complete response.

    Raises:
        ContentFilterError: the model declined.
        InvalidResponseError: it has no content.
        ReportedError: it is an error.
    """
    completion = reply.content
    choices = getattr(completion, "choices", None)
    if not choices:
        error = getattr(completion, "error", None)
        if isinstance(error, Mapping):
            raise ReportedError(error)
        raise InvalidResponseError(f"{model} answered without a choice")
    choice = choices[0]
    message, usage = choice.message, _usage(completion.usage)
    if choice.finish_reason == "content_filter" or getattr(message, "refusal", None):
        raise refusal(model, usage)
    text = join_text(message.content)
    called = [
        each for each in message.tool_calls or () if getattr(each, "function", None) is not None
    ]
    tool_calls = tuple(
        tool_call(each.id, each.function.name, each.function.arguments) for each in called
    )
    fields, reasoning = ReasoningFields(), _reasoning(message)
    fields.add(message)
    check_content(
        model,
        choice.finish_reason,
        answered=bool(text or tool_calls),
        reasoned=bool(reasoning),
        usage=usage,
    )
    return Response(
        text,
        usage=usage,
        finish_reason=choice.finish_reason,
        tool_calls=tool_calls,
        response_id=completion.id,
        reasoning=reasoning,
        quota=quota_from_headers(reply.headers, daily_requests=daily_requests),
        state=fields.state(origin, [_of_a_call(each) for each in called]),
        model_id=getattr(completion, "model", None),
    )


class ChatStreamDecoder:
    """Decodes the chunks of one stream."""

    def __init__(
        self, headers: Mapping[str, str], *, model: str, origin: str, daily_requests: bool
    ) -> None:
        self._headers = headers
        self._model = model
        self._origin = origin
        self._reasoning = ReasoningFields()
        self._daily_requests = daily_requests
        self._id: str | None = None
        self._model_id: str | None = None
        self._finish_reason: str | None = None
        self._usage: Any = None
        self._refused = False
        self._answered = self._reasoned = False
        self._calls: list[dict[str, Any]] = []
        self._of_calls: list[dict[str, Any]] = []
        self._call_at: dict[int | None, dict[str, Any]] = {}

    def events(self, chunk: Any) -> Iterator[StreamEvent]:
        """The stream events in one chunk."""
        self._id = self._id or getattr(chunk, "id", None)
        self._model_id = self._model_id or getattr(chunk, "model", None)
        usage = chunk.usage or getattr(getattr(chunk, "x_groq", None), "usage", None)
        if usage is not None:
            self._usage = usage
        for choice in chunk.choices or ():
            if choice.index:
                continue
            delta = choice.delta
            if delta is not None:
                self._reasoning.add(delta)
                if delta.content:
                    self._answered = True
                    yield TextDelta(join_text(delta.content), chunk)
                elif reasoning := _reasoning(delta):
                    self._reasoned = True
                    yield ReasoningDelta(reasoning)
                for call in delta.tool_calls or ():
                    self._add_call(call)
                self._refused = self._refused or bool(getattr(delta, "refusal", None))
            if choice.finish_reason is not None:
                self._finish_reason = choice.finish_reason

    def end(self) -> Iterator[StreamEvent]:
        """The end mark, if the provider sent a finish reason.

        Raises:
            ContentFilterError: the model declined. InvalidResponseError: there is no content.
        """
        if self._refused or self._finish_reason == "content_filter":
            raise refusal(self._model, _usage(self._usage))
        if self._finish_reason is None:
            return
        check_content(
            self._model,
            self._finish_reason,
            answered=self._answered or bool(self._calls),
            reasoned=self._reasoned,
            usage=_usage(self._usage),
        )
        yield End(
            self._finish_reason,
            usage=_usage(self._usage),
            tool_calls=tuple(tool_call(**each) for each in self._calls),
            response_id=self._id,
            quota=quota_from_headers(self._headers, daily_requests=self._daily_requests),
            state=self._reasoning.state(self._origin, self._of_calls),
            model_id=self._model_id,
        )

    def _add_call(self, delta: Any) -> None:
        call = self._call_at.get(delta.index)
        # Some servers give every call the index 0, or none: another id means another call.
        if call is None or (delta.id and call["call_id"] and delta.id != call["call_id"]):
            call = self._call_at[delta.index] = {"call_id": "", "name": "", "arguments": ""}
            self._calls.append(call)
            self._of_calls.append({})
        call["call_id"] = call["call_id"] or delta.id or ""
        if delta.function is not None:
            call["name"] = call["name"] or delta.function.name or ""
            call["arguments"] += delta.function.arguments or ""
        at = next(i for i, each in enumerate(self._calls) if each is call)
        self._of_calls[at].update(_of_a_call(delta))


class ReasoningFields:
    """The fields of an answer in which a server puts its reasoning, and wants it back."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._details: list[dict[str, Any]] = []

    def add(self, message: Any) -> None:
        """Add those of a message, or of the next delta of one."""
        for name in _REASONING_NAMES:
            if (text := getattr(message, name, None)) and isinstance(text, str):
                self._texts[name] = self._texts.get(name, "") + text
        details = getattr(message, _DETAILS, None)
        if details and isinstance(details, list):
            for each in details:
                self._add_detail(dict(each))

    def state(self, origin: str, of_calls: Sequence[Mapping[str, Any]]) -> ProviderState | None:
        """The state of an answer with tool calls: servers want nothing else back."""
        if not of_calls:
            return None
        block = {**self._texts, **({_DETAILS: self._details} if self._details else {})}
        calls: list[Item] = [{"call": True, **each} for each in of_calls]
        return state_of(origin, [*([{"block": block}] if block else []), *calls])

    def _add_detail(self, detail: dict[str, Any]) -> None:
        """A detail with the index and type of the last one continues it."""
        last = self._details[-1] if self._details else {}
        place = ("type", "index")
        if not last or "index" not in detail or any(last.get(n) != detail.get(n) for n in place):
            self._details.append(detail)
            return
        for name, value in detail.items():
            more = name in ("text", "summary", "data") and isinstance(last.get(name), str)
            last[name] = last[name] + value if more and isinstance(value, str) else value


def _of_a_call(call: Any) -> dict[str, Any]:
    extra = getattr(call, _OF_A_CALL, None)
    return {} if extra is None else {_OF_A_CALL: extra}


def join_text(content: Any) -> str:
    """The text of an answer; some servers send it in parts, as requests have it."""
    if isinstance(content, str):
        return content
    if content is None or isinstance(content, list):
        return "".join(part["text"] for part in content or () if part.get("type") == "text")
    raise TypeError(type(content))


def _usage(usage: Any) -> Usage:
    if usage is None:
        return Usage()
    prompt = getattr(usage, "prompt_tokens_details", None)
    completion = getattr(usage, "completion_tokens_details", None)
    return Usage(
        input_tokens=token_count(getattr(usage, "prompt_tokens", 0)),
        output_tokens=token_count(getattr(usage, "completion_tokens", 0)),
        cache_read_tokens=token_count(getattr(prompt, "cached_tokens", 0)),
        cache_write_tokens=token_count(getattr(prompt, "cache_write_tokens", 0)),
        reasoning_tokens=token_count(getattr(completion, "reasoning_tokens", 0)),
    )


def _reasoning(message: Any) -> str:
    text = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    return text if isinstance(text, str) else ""
