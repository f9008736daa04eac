"""Anthropic's messages through its SDK."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self

from agentkit.errors import ContentFilterError, InvalidResponseError
from agentkit.providers.anthropic.encoding import (
    ANSWER_TOOL,
    encoded_messages,
    max_tokens_of,
    output_format,
    system_of,
    takes_prefill,
    tool,
    tool_choice,
)
from agentkit.providers.call_memory import Recall
from agentkit.providers.content import count
from agentkit.providers.http_sdk import READ_TIMEOUT, HttpSdkProvider, Listener, ToldError
from agentkit.providers.json_schema import with_response_format
from agentkit.providers.openai.chat import called
from agentkit.providers.quota import quota_of
from agentkit.providers.sdk import apart, parameter_names
from agentkit.types import (
    End,
    ReasoningDelta,
    Request,
    Response,
    StreamEvent,
    TextDelta,
    ToolCall,
    Usage,
)

_FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length",
    "tool_use": "tool_calls", "model_context_window_exceeded": "length",
}  # fmt: skip

_THOUGHTS = ("thinking", "redacted_thinking")


class AnthropicMessages(HttpSdkProvider):
    """A Claude model: text, images, documents, tools, JSON schemas, thinking, streams.

    Its API demands ``max_tokens``; where nobody says, the model family's default is sent.
    """

    provider: ClassVar[str] = "anthropic"
    sdk: ClassVar[str] = "anthropic"
    client_names: ClassVar[tuple[str, str]] = ("Anthropic", "AsyncAnthropic")
    key_variables: ClassVar[tuple[str, ...]] = ("ANTHROPIC_API_KEY",)
    too_long = re.compile(r"prompt is too long|input length and `max_tokens` exceed context limit")

    def __init__(self, model: str, **settings: Any) -> None:
        super().__init__(model, **settings)
        self.capabilities = frozenset(
            {"messages", "tools", "vision", "documents", "json_schema", "json_object"}
            | ({"prefill"} if takes_prefill(model) else set())
        )
        self._thoughts: Recall[list[dict[str, Any]]] = Recall()

    def with_key(self, api_key: str) -> Self:
        """The same model and settings with another key; what one was told, the other knows."""
        other = super().with_key(api_key)
        other._thoughts = self._thoughts
        return other

    def _create(self, client: Any) -> Callable[..., Any]:
        create: Callable[..., Any] = client.messages.with_raw_response.create
        return create

    def _listener(self, headers: Mapping[str, str]) -> Listener:
        return _Told(self.model, headers, self._thoughts)

    def _encoded(self, request: Request, *, stream: bool = False) -> dict[str, Any]:
        from anthropic.resources.messages import Messages

        options = self._parameters(request)
        request = with_response_format(request, options)
        if "stop" in options:
            stop = options.pop("stop")
            options["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        if request.tools:
            options["tools"] = [tool(each) for each in request.tools]
        if "tool_choice" in options:
            options["tool_choice"] = tool_choice(options["tool_choice"])
        options.setdefault("max_tokens", max_tokens_of(self.model, options.get("thinking")))
        wish = output_format(self.model, request)
        for name, value in wish.options.items():
            merge = isinstance(value, dict) and isinstance(options.get(name), dict)
            options[name] = {**options[name], **value} if merge else value
        options = apart(options, parameter_names(Messages.create))
        # Without one, the SDK refuses a large max_tokens unless it streams.
        options["timeout"] = READ_TIMEOUT if request.timeout is None else request.timeout
        system = system_of(request, wish.words)
        if system:
            options["system"] = system
        options["model"] = self.model
        options["messages"] = encoded_messages(request.conversation, self._thoughts)
        if stream:
            options["stream"] = True
        return options

    def _decoded(self, message: Any, headers: Mapping[str, str]) -> Response[Any]:
        error = getattr(message, "error", None)
        if isinstance(error, Mapping):
            raise ToldError(error)
        if message.stop_reason == "refusal":
            raise refused(self.model)
        texts, thoughts, calls, before = [], [], [], list[dict[str, Any]]()
        for block in message.content or ():
            if block.type == "text":
                texts.append(block.text)
            elif block.type in _THOUGHTS:
                before.append(block.to_dict())
                thoughts.append(getattr(block, "thinking", ""))
            elif block.type == "tool_use":
                calls.append(called(block.id, block.name, block.input))
        if calls and before:
            self._thoughts.keep(calls[0].id, before)
        text, tool_calls = _answered("".join(texts), calls)
        if not message.content:
            raise InvalidResponseError(f"{self.model} answered without content")
        return Response(
            text,
            usage_of(message.usage),
            finish_reason=finish_of(message.stop_reason, tool_calls),
            tool_calls=tool_calls,
            response_id=message.id,
            reasoning="".join(thoughts),
            quota=quota_of(headers),
        )


class _Told:
    """What a stream has told so far."""

    def __init__(
        self, model: str, headers: Mapping[str, str], thoughts: Recall[list[dict[str, Any]]]
    ) -> None:
        self._model = model
        self._thoughts = thoughts
        self._headers = headers
        self._id: str | None = None
        self._stop: str | None = None
        self._usage = Usage()
        self._blocks: dict[int, dict[str, Any]] = {}
        self._before: dict[int, dict[str, Any]] = {}

    def events(self, event: Any) -> Iterator[StreamEvent]:
        """The events of one of the SDK's."""
        kind = event.type
        if kind == "content_block_delta":
            yield from self._delta(event)
        elif kind == "content_block_start":
            self._start(event.index, event.content_block)
        elif kind == "message_start":
            self._id = event.message.id
            self._usage = usage_of(event.message.usage)
        elif kind == "message_delta":
            self._stop = event.delta.stop_reason or self._stop
            self._usage = _corrected(self._usage, event.usage)
        elif kind == "message_stop":
            yield from self._end()

    def end(self) -> Iterable[StreamEvent]:
        """Nothing: the end mark is an event of its own."""
        return ()

    def _start(self, index: int, block: Any) -> None:
        if block.type == "tool_use":
            self._blocks[index] = {"id": block.id, "name": block.name, "json": ""}
        elif block.type in _THOUGHTS:
            self._before[index] = block.to_dict()

    def _delta(self, event: Any) -> Iterator[StreamEvent]:
        delta = event.delta
        if delta.type == "text_delta":
            yield TextDelta(delta.text, event)
        elif delta.type == "thinking_delta":
            self._before[event.index]["thinking"] += delta.thinking
            yield ReasoningDelta(delta.thinking)
        elif delta.type == "signature_delta":
            self._before[event.index]["signature"] = delta.signature
        elif delta.type == "input_json_delta":
            block = self._blocks[event.index]
            block["json"] += delta.partial_json
            if block["name"] == ANSWER_TOOL:
                yield TextDelta(delta.partial_json, event)

    def _end(self) -> Iterator[StreamEvent]:
        if self._stop == "refusal":
            raise refused(self._model)
        calls = tuple(
            called(each["id"], each["name"], each["json"])
            for _, each in sorted(self._blocks.items())
            if each["name"] != ANSWER_TOOL
        )
        if calls and self._before:
            self._thoughts.keep(calls[0].id, [each for _, each in sorted(self._before.items())])
        finish = finish_of(self._stop, calls)
        yield End(finish, self._usage, calls, self._id, quota_of(self._headers))


def refused(model: str) -> ContentFilterError:
    """The model declined by policy."""
    return ContentFilterError(f"{model} declined to answer")


def finish_of(stop: str | None, calls: tuple[ToolCall, ...]) -> str | None:
    """The field's common word for a stop reason; the vendor's own where there is none."""
    if stop == "tool_use" and not calls:
        return "stop"
    return None if stop is None else _FINISH.get(stop, stop)


def usage_of(usage: Any) -> Usage:
    """Token counts; Anthropic counts cached tokens apart, `Usage` within the input."""
    read = count(getattr(usage, "cache_read_input_tokens", 0))
    written = count(getattr(usage, "cache_creation_input_tokens", 0))
    return Usage(
        count(getattr(usage, "input_tokens", 0)) + read + written,
        count(getattr(usage, "output_tokens", 0)),
        read,
        written,
    )


def _corrected(usage: Usage, later: Any) -> Usage:
    """The counts of a stream's start with those of its end, where the end tells them."""
    told = usage_of(later)
    return Usage(
        max(usage.input_tokens, told.input_tokens),
        told.output_tokens or usage.output_tokens,
        max(usage.cache_read_tokens, told.cache_read_tokens),
        max(usage.cache_write_tokens, told.cache_write_tokens),
    )


def _answered(text: str, calls: list[ToolCall]) -> tuple[str, tuple[ToolCall, ...]]:
    """The JSON of a forced tool as the text; other calls as they are."""
    for call in calls:
        if call.name == ANSWER_TOOL:
            others = tuple(each for each in calls if each is not call)
            return json.dumps(dict(call.arguments), ensure_ascii=False), others
    return text, tuple(calls)
