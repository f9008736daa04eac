"""OpenAI's chat completions through its SDK, and everything that speaks the same language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar
from uuid import uuid4

from agentkit.errors import ContentFilterError, InvalidRequestError, InvalidResponseError
from agentkit.providers.content import count, data_url, fitting_id, json_arguments, parts_of
from agentkit.providers.http_sdk import HttpSdkProvider, Listener, ToldError
from agentkit.providers.json_schema import strict_schema, with_json_instruction
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
    Usage,
)

_LIMIT = "max_tokens"
_LONGEST_ID = 40  # of a tool call, in characters
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")


class OpenAIChat(HttpSdkProvider):
    """A chat model of OpenAI: text, images, tools, JSON schemas, streams."""

    provider: ClassVar[str] = "openai"
    sdk: ClassVar[str] = "openai"
    client_names: ClassVar[tuple[str, str]] = ("OpenAI", "AsyncOpenAI")
    capabilities = frozenset({"messages", "tools", "vision", "json_schema", "json_object"})
    key_variables: ClassVar[tuple[str, ...]] = ("OPENAI_API_KEY",)
    limit_name: ClassVar[str] = "max_completion_tokens"
    """How the provider calls the most tokens of an answer."""
    daily_requests: ClassVar[bool] = False

    def _create(self, client: Any) -> Callable[..., Any]:
        create: Callable[..., Any] = client.chat.completions.with_raw_response.create
        return create

    def _listener(self, headers: Mapping[str, str]) -> Listener:
        return _Told(self, headers)

    def _known(self) -> frozenset[str]:
        from openai.resources.chat.completions import Completions

        return parameter_names(Completions.create)

    def _encoded(self, request: Request, *, stream: bool = False) -> dict[str, Any]:
        options = self._parameters(request)
        if _LIMIT in options and self.limit_name != _LIMIT:
            options[self.limit_name] = options.pop(_LIMIT)
        if request.tools:
            options["tools"] = [_tool(each) for each in request.tools]
        if "tool_choice" in options:
            options["tool_choice"] = tool_choice(options["tool_choice"])
        if request.response_format is not None:
            options["response_format"] = response_format(request.response_format)
        if stream:
            options["stream"] = True
            options.setdefault("stream_options", {"include_usage": True})
        options = apart(options, self._known())
        options["model"] = self.model
        messages = (*json_wish(request, request.conversation), *request.conversation)
        options["messages"] = [_message(each) for each in messages]
        return options

    def _decoded(self, completion: Any, headers: Mapping[str, str]) -> Response[Any]:
        choices = getattr(completion, "choices", None)
        if not choices:
            error = getattr(completion, "error", None)
            if isinstance(error, Mapping):
                raise ToldError(error)
            raise InvalidResponseError(f"{self.model} answered without a choice")
        choice = choices[0]
        message = choice.message
        if choice.finish_reason == "content_filter" or getattr(message, "refusal", None):
            raise refused(self.model)
        text = text_of(message.content)
        calls = tuple(
            called(each.id, each.function.name, each.function.arguments)
            for each in message.tool_calls or ()
            if getattr(each, "function", None) is not None
        )
        if not text and not calls and message.content is None:
            raise InvalidResponseError(
                f"{self.model} answered without content",
                hint="raise max_tokens" if choice.finish_reason == "length" else None,
            )
        return Response(
            text,
            usage_of(completion.usage),
            finish_reason=choice.finish_reason,
            tool_calls=calls,
            response_id=completion.id,
            reasoning=_reasoning(message),
            quota=quota_of(headers, daily_requests=self.daily_requests),
        )


class _Told:
    """What a stream has told so far."""

    def __init__(self, adapter: OpenAIChat, headers: Mapping[str, str]) -> None:
        self._adapter = adapter
        self._headers = headers
        self._id: str | None = None
        self._finish: str | None = None
        self._usage: Any = None
        self._refused = False
        self._calls: list[dict[str, Any]] = []
        self._call_at: dict[int | None, dict[str, Any]] = {}

    def events(self, chunk: Any) -> Iterator[StreamEvent]:
        """The events of one chunk."""
        self._id = self._id or getattr(chunk, "id", None)
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices or ():
            if choice.index:
                continue
            delta = choice.delta
            if delta is not None:
                if delta.content:
                    yield TextDelta(text_of(delta.content), chunk)
                elif thought := _reasoning(delta):
                    yield ReasoningDelta(thought)
                for call in delta.tool_calls or ():
                    self._collect(call)
                self._refused = self._refused or bool(getattr(delta, "refusal", None))
            if choice.finish_reason is not None:
                self._finish = choice.finish_reason

    def end(self) -> Iterator[StreamEvent]:
        """The end mark, if the provider set one."""
        if self._refused or self._finish == "content_filter":
            raise refused(self._adapter.model)
        if self._finish is None:
            return
        calls = tuple(called(each["id"], each["name"], each["arguments"]) for each in self._calls)
        quota = quota_of(self._headers, daily_requests=self._adapter.daily_requests)
        yield End(self._finish, usage_of(self._usage), calls, self._id, quota)

    def _collect(self, call: Any) -> None:
        known = self._call_at.get(call.index)
        # Some servers give every call the index 0, or none: another id is another call.
        if known is None or (call.id and known["id"] and call.id != known["id"]):
            known = self._call_at[call.index] = {"id": "", "name": "", "arguments": ""}
            self._calls.append(known)
        known["id"] = known["id"] or call.id or ""
        if call.function is not None:
            known["name"] = known["name"] or call.function.name or ""
            known["arguments"] += call.function.arguments or ""


def called(given: str | None, name: str | None, arguments: Any) -> ToolCall:
    """A tool call; a server that gives it no id gets one of ours, since its result needs one."""
    if not name:
        raise InvalidResponseError("the model called a tool without naming it")
    return ToolCall(given or f"call_{uuid4().hex}", name, json_arguments(arguments, name))


def text_of(content: Any) -> str:
    """The answer's text; some servers send it in parts, as requests have it."""
    if isinstance(content, str):
        return content
    if content is None or isinstance(content, list):
        return "".join(part["text"] for part in content or () if part.get("type") == "text")
    raise TypeError(type(content))


def refused(model: str) -> ContentFilterError:
    """The model or its provider declined by policy."""
    return ContentFilterError(f"{model} declined to answer")


def usage_of(usage: Any) -> Usage:
    """Token counts; what is missing or negative counts as 0."""
    if usage is None:
        return Usage()
    prompt = getattr(usage, "prompt_tokens_details", None)
    answer = getattr(usage, "completion_tokens_details", None)
    return Usage(
        count(getattr(usage, "prompt_tokens", 0)),
        count(getattr(usage, "completion_tokens", 0)),
        cache_read_tokens=count(getattr(prompt, "cached_tokens", 0)),
        reasoning_tokens=count(getattr(answer, "reasoning_tokens", 0)),
    )


def tool_choice(wish: Any) -> Any:
    """``auto``, ``none``, ``required``, a vendor's own dict, or the name of one tool."""
    if not isinstance(wish, str) or wish in ("auto", "none", "required"):
        return wish
    return {"type": "function", "function": {"name": wish}}


def response_format(wish: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema in strict mode where it fits, else as it is; JSON mode without a schema."""
    if wish.get("type") != "json_schema":
        return dict(wish)
    strict = strict_schema(wish["schema"])
    schema = {
        "name": _NO_NAME.sub("_", str(wish.get("name") or "answer"))[:64],
        "schema": wish["schema"] if strict is None else strict,
        "strict": strict is not None,
    }
    return {"type": "json_schema", "json_schema": schema}


def json_wish(request: Request, messages: Sequence[Message]) -> tuple[Message, ...]:
    """What JSON mode needs besides: it is refused unless one of the messages mentions JSON."""
    wish = request.response_format
    if wish is None or wish.get("type") != "json_object":
        return ()
    if any("json" in each.text.lower() for each in messages):
        return ()
    return with_json_instruction(request).messages[:1]


def _reasoning(message: Any) -> str:
    found = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    return found if isinstance(found, str) else ""


def _tool(spec: Any) -> dict[str, Any]:
    function = {"name": spec.name, "parameters": dict(spec.parameters)}
    if spec.description:
        function["description"] = spec.description
    return {"type": "function", "function": function}


def _message(message: Message) -> dict[str, Any]:
    role = message.role
    if role is MessageRole.TOOL:
        call_id = fitting_id(message.tool_call_id, _LONGEST_ID)
        return {"role": "tool", "content": message.text, "tool_call_id": call_id}
    if role is MessageRole.ASSISTANT and message.tool_calls:
        return {
            "role": "assistant",
            "content": message.text or None,
            "tool_calls": [_call(each) for each in message.tool_calls],
        }
    if isinstance(message.content, str):
        return {"role": str(role), "content": message.content}
    return {"role": str(role), "content": [_part(each) for each in parts_of(message)]}


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    return {"id": fitting_id(call.id, _LONGEST_ID), "type": "function", "function": function}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return part
    if part["type"] == "image":
        detail = {"detail": part["detail"]} if "detail" in part else {}
        return {"type": "image_url", "image_url": {"url": data_url(part), **detail}}
    if "url" in part:
        raise InvalidRequestError(
            "chat completions take no address for a document", hint="give data= (bytes)"
        )
    return {"type": "file", "file": {"filename": part["name"], "file_data": data_url(part)}}
