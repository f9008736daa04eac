"""OpenAI's responses through its SDK."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agentkit.errors import InvalidResponseError
from agentkit.providers.content import (
    Part,
    count,
    data_url,
    fitting_id,
    parts_of,
    without_system,
)
from agentkit.providers.http_sdk import HttpSdkProvider, Listener, ToldError
from agentkit.providers.openai.chat import called, json_wish, refused, response_format, text_of
from agentkit.providers.quota import quota_of
from agentkit.providers.sdk import apart, parameter_names
from agentkit.types import (
    End,
    Message,
    MessageRole,
    ReasoningDelta,
    Request,
    Response,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
)

_LONGEST_ID = 64  # of a tool call, in characters
_LIMITS = ("max_tokens", "max_completion_tokens")
_THOUGHTS = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")
_BETWEEN_THOUGHTS = "\n\n"
_POLICIES = frozenset({
    "bio_policy", "misalignment_policy_violation", "image_content_policy_violation",
})  # fmt: skip
_REQUESTS_FAULTS = (
    "invalid_", "image_", "empty_image", "unsupported_image", "failed_to_download_image",
    "data_residency",
)  # fmt: skip
"""How the codes of a failed response begin that blame the request."""


class OpenAIResponses(HttpSdkProvider):
    """A model of OpenAI's responses API: text, images, files, tools, JSON schemas, streams.

    Nothing is stored at OpenAI unless ``store=True`` is set. What the model thought aloud is in
    `Response.reasoning` when summaries are asked for (``reasoning={"summary": "auto"}``).
    """

    provider: ClassVar[str] = "openai"
    sdk: ClassVar[str] = "openai"
    client_names: ClassVar[tuple[str, str]] = ("OpenAI", "AsyncOpenAI")
    key_variables: ClassVar[tuple[str, ...]] = ("OPENAI_API_KEY",)
    capabilities = frozenset(
        {"messages", "tools", "vision", "documents", "json_schema", "json_object"}
    )

    def _create(self, client: Any) -> Callable[..., Any]:
        create: Callable[..., Any] = client.responses.with_raw_response.create
        return create

    def _listener(self, headers: Mapping[str, str]) -> Listener:
        return _Told(self, headers)

    def _encoded(self, request: Request, *, stream: bool = False) -> dict[str, Any]:
        from openai.resources.responses import Responses

        options = self._parameters(request)
        for name in _LIMITS:
            if name in options:
                options["max_output_tokens"] = options.pop(name)
        if "reasoning_effort" in options:
            effort = {"effort": options.pop("reasoning_effort")}
            options["reasoning"] = {**effort, **options.get("reasoning", {})}
        if request.tools:
            options["tools"] = [_tool(each) for each in request.tools]
        if "tool_choice" in options:
            options["tool_choice"] = _tool_choice(options["tool_choice"])
        if request.response_format is not None:
            form = _text_format(request.response_format)
            options["text"] = {**options.get("text", {}), "format": form}
        options.setdefault("store", False)
        options = apart(options, parameter_names(Responses.create))
        system, messages = without_system(request.conversation)
        told = [each for each in (options.get("instructions"), system) if each]
        if told:
            options["instructions"] = "\n\n".join(told)
        if stream:
            options["stream"] = True
        options["model"] = self.model
        wish = [{"role": "system", "content": each.text} for each in json_wish(request, messages)]
        options["input"] = [*wish, *(item for each in messages for item in _items(each))]
        return options

    def _decoded(self, answer: Any, headers: Mapping[str, str]) -> Response[Any]:
        error = getattr(answer, "error", None)
        if error is not None or answer.status in ("failed", "cancelled"):
            raise self.failure(getattr(error, "code", None), getattr(error, "type", None))
        reason = getattr(answer.incomplete_details, "reason", None)
        if reason == "content_filter":
            raise refused(self.model)
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[ToolCall] = []
        for item in answer.output or ():
            if item.type == "message":
                texts.extend(self._texts(item))
            elif item.type == "reasoning":
                thoughts.extend(each.text for each in item.summary or item.content or ())
            elif item.type == "function_call":
                calls.append(called(item.call_id, item.name, item.arguments))
        if not texts and not calls and not reason:
            raise InvalidResponseError(f"{self.model} answered without content")
        return Response(
            "".join(texts),
            usage_of(answer.usage),
            finish_reason=_finish(reason, calls),
            tool_calls=tuple(calls),
            response_id=answer.id,
            reasoning=_BETWEEN_THOUGHTS.join(thoughts),
            quota=quota_of(headers),
        )

    def _texts(self, message: Any) -> Iterator[str]:
        for part in message.content:
            if part.type == "refusal":
                raise refused(self.model)
            if part.type == "output_text":
                yield part.text

    def failure(self, code: Any, kind: Any = None) -> Exception:
        """What the code and the type of an error inside an answer mean."""
        if code in _POLICIES:
            return refused(self.model)
        if isinstance(code, str) and code.startswith(_REQUESTS_FAULTS):
            kind = "invalid_request_error"
        return ToldError({"code": code, "type": kind or "api_error"})


class _Told:
    """What a stream has told so far; its last event repeats the whole answer."""

    def __init__(self, adapter: OpenAIResponses, headers: Mapping[str, str]) -> None:
        self._adapter = adapter
        self._headers = headers

    def events(self, event: Any) -> Iterator[StreamEvent]:
        """The events of one of the SDK's."""
        kind = event.type
        if kind == "response.output_text.delta":
            yield TextDelta(text_of(event.delta), event)
        elif kind in _THOUGHTS:
            yield ReasoningDelta(event.delta)
        elif kind == "response.reasoning_summary_part.added" and event.summary_index:
            yield ReasoningDelta(_BETWEEN_THOUGHTS)
        elif kind == "response.refusal.delta":
            raise refused(self._adapter.model)
        elif kind == "error":
            raise self._adapter.failure(event.code)
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            yield self._end(event.response)

    def end(self) -> Iterable[StreamEvent]:
        """Nothing: the end mark is an event of its own."""
        return ()

    def _end(self, answer: Any) -> End:
        whole = self._adapter._decoded(answer, self._headers)
        return End(
            whole.finish_reason, whole.usage, whole.tool_calls, whole.response_id, whole.quota
        )


def usage_of(usage: Any) -> Usage:
    """Token counts; what is missing or negative counts as 0."""
    prompt = getattr(usage, "input_tokens_details", None)
    answer = getattr(usage, "output_tokens_details", None)
    return Usage(
        count(getattr(usage, "input_tokens", 0)),
        count(getattr(usage, "output_tokens", 0)),
        count(getattr(prompt, "cached_tokens", 0)),
        count(getattr(prompt, "cache_write_tokens", 0)),
        count(getattr(answer, "reasoning_tokens", 0)),
    )


def _finish(reason: str | None, calls: list[ToolCall]) -> str:
    if reason is not None:
        return "length" if reason == "max_output_tokens" else reason
    return "tool_calls" if calls else "stop"


def _text_format(wish: Mapping[str, Any]) -> dict[str, Any]:
    form = response_format(wish)
    return {"type": form["type"], **form.get("json_schema", {})}


def _tool_choice(wish: Any) -> Any:
    if not isinstance(wish, str) or wish in ("auto", "none", "required"):
        return wish
    return {"type": "function", "name": wish}


def _tool(spec: ToolSpec) -> dict[str, Any]:
    told = {"type": "function", "name": spec.name, "parameters": dict(spec.parameters)}
    if spec.description:
        told["description"] = spec.description
    return {**told, "strict": False}


def _items(message: Message) -> Iterator[dict[str, Any]]:
    if message.role is MessageRole.TOOL:
        call_id = fitting_id(message.tool_call_id, _LONGEST_ID)
        output = _content(message)
        yield {"type": "function_call_output", "call_id": call_id, "output": output}
    elif message.role is MessageRole.USER:
        yield {"role": "user", "content": _content(message)}
    else:
        if message.text or not message.tool_calls:
            yield {"role": "assistant", "content": message.text}
        for call in message.tool_calls:
            yield {
                "type": "function_call",
                "call_id": fitting_id(call.id, _LONGEST_ID),
                "name": call.name,
                "arguments": json.dumps(dict(call.arguments), ensure_ascii=False),
            }


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [_part(part) for part in parts_of(message)]


def _part(part: Part) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "input_text", "text": part["text"]}
    if part["type"] == "image":
        return {
            "type": "input_image",
            "image_url": data_url(part),
            "detail": part.get("detail", "auto"),
        }
    if "url" in part:
        return {"type": "input_file", "file_url": part["url"]}
    return {"type": "input_file", "filename": part["name"], "file_data": data_url(part)}
