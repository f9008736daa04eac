"""Responses and stream chunks of Google's generateContent API."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from agentkit.errors import InvalidResponseError
from agentkit.providers.response_fields import (
    ReportedError,
    check_content,
    refusal,
    token_count,
    tool_call,
)
from agentkit.providers.state import state_of
from agentkit.providers.transport.base import Reply
from agentkit.types import (
    End,
    ReasoningDelta,
    Response,
    ResponseBuilder,
    StreamEvent,
    TextDelta,
    ToolCall,
    Usage,
)

_FINISH_REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
_REFUSALS = frozenset(
    {
        *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
    }
)
_MALFORMED = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE"})


def decode(reply: Reply, *, model: str, origin: str) -> Response[Any]:
    """A complete response, which has the shape of a stream of one chunk.

    Raises:
        ContentFilterError: the model declined.
        InvalidResponseError: it has no content, or no end.
        ReportedError: it is an error.
    """
    error = getattr(reply.content, "error", None)
    if isinstance(error, Mapping):
        raise ReportedError(error)
    chunks = GenerateStreamDecoder(model=model, origin=origin)
    builder = ResponseBuilder((*chunks.events(reply.content), *chunks.end()))
    if builder.end is None:
        raise InvalidResponseError(f"{model} sent a response without a finish reason")
    return builder.response()


class GenerateStreamDecoder:
    """Decodes the chunks of one stream."""

    def __init__(self, *, model: str, origin: str) -> None:
        self._model = model
        self._origin = origin
        self._items: list[dict[str, Any]] = []
        self._id: str | None = None
        self._model_id: str | None = None
        self._finish_reason: str | None = None
        self._usage: Any = None
        self._tool_calls: list[ToolCall] = []
        self._answered = self._reasoned = False

    def events(self, chunk: Any) -> Iterator[StreamEvent]:
        """The stream events in one chunk.

        Raises:
            ContentFilterError: Google refused the prompt.
        """
        self._id = self._id or chunk.response_id
        self._model_id = self._model_id or chunk.model_version
        self._usage = chunk.usage_metadata or self._usage
        feedback = chunk.prompt_feedback
        if feedback is not None and feedback.block_reason:
            raise refusal(self._model, _usage(self._usage))
        for candidate in chunk.candidates or ():
            if candidate.index:
                continue
            yield from self._parts(candidate, chunk)
            if candidate.finish_reason is not None:
                reason = candidate.finish_reason
                self._finish_reason = str(getattr(reason, "value", reason))

    def end(self) -> Iterator[StreamEvent]:
        """The end mark, if the provider sent a finish reason.

        Raises:
            ContentFilterError: the model declined.
            InvalidResponseError: it gave up, or there is no content.
        """
        reason, usage = self._finish_reason, _usage(self._usage)
        if reason in _REFUSALS:
            raise refusal(self._model, usage)
        if reason in _MALFORMED:
            raise InvalidResponseError(f"{self._model} gave up: {reason}")
        if reason is None:
            return
        finish_reason = _FINISH_REASONS.get(reason, reason.lower())
        check_content(
            self._model,
            finish_reason,
            answered=self._answered or bool(self._tool_calls),
            reasoned=self._reasoned,
            usage=usage,
        )
        if self._tool_calls and finish_reason == "stop":
            finish_reason = "tool_calls"
        yield End(
            finish_reason,
            usage=usage,
            tool_calls=tuple(self._tool_calls),
            response_id=self._id,
            state=state_of(self._origin, self._items),
            model_id=self._model_id,
        )

    def _parts(self, candidate: Any, chunk: Any) -> Iterator[StreamEvent]:
        content = candidate.content
        for part in (content.parts if content is not None else None) or ():
            if part.text is not None and not part.thought:
                self._add_text(len(part.text), part.thought_signature)
            if part.text and part.thought:
                self._reasoned = True
                yield ReasoningDelta(part.text)
            elif part.text:
                self._answered = True
                yield TextDelta(part.text, chunk)
            elif part.function_call is not None:
                self._tool_calls.append(self._tool_call(part))
            elif part.text is None:
                self._answered = True  # of another kind, such as code that was run

    def _tool_call(self, part: Any) -> ToolCall:
        function = part.function_call
        self._items.append({"call": True, **_signature(part.thought_signature)})
        return tool_call(function.id, function.name, function.args)

    def _add_text(self, length: int, signature: bytes | None) -> None:
        """A signed part stays a part of its own; the others are joined."""
        last = self._items[-1] if self._items else {}
        if signature is None and last.keys() == {"text"}:
            last["text"] += length
        elif length or signature is not None:
            self._items.append({"text": length, **_signature(signature)})


def _signature(signature: bytes | None) -> dict[str, str]:
    if signature is None:
        return {}
    return {"signature": base64.b64encode(signature).decode("ascii")}


def _usage(usage: Any) -> Usage:
    """Token counts; thinking is a part of the output."""
    if usage is None:
        return Usage()
    thinking = token_count(usage.thoughts_token_count)
    tools = token_count(usage.tool_use_prompt_token_count)
    return Usage(
        input_tokens=token_count(usage.prompt_token_count) + tools,
        output_tokens=token_count(usage.candidates_token_count) + thinking,
        cache_read_tokens=token_count(usage.cached_content_token_count),
        reasoning_tokens=thinking,
    )
