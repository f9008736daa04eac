"""A manager as a chat-completions function, for libraries that are built around one.

agentkit validates answers itself (`response_model=`), without another library. For code that is
written for `instructor`, this module keeps retries, fallbacks, limits and traces in place::

    create = instructor.patch(create=chat_create(manager))
    city = create(messages=[{"role": "user", "content": "…"}], response_model=City)

Instructor validates and asks again; each time it asks, that is one request of the manager.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agentkit.errors import ConfigurationError, MissingDependencyError, RequestValidationError
from agentkit.output.schema import JSONSchema
from agentkit.output.tools import tool_spec
from agentkit.types import Message, MessageRole, Response, ToolCall

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

    from agentkit.manager.manager import LLMManager

_FINISH_REASONS: Final = {
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
}


def chat_create(manager: LLMManager, *, model: str | None = None) -> Callable[..., ChatCompletion]:
    """A function like ``openai.OpenAI().chat.completions.create`` that uses `manager`.

    It accepts `messages` (in OpenAI's format), `tools`, `tool_choice`, `response_format`, the
    arguments of `LLMManager.complete` (`deadline`, `use_cache`, …) and the model's own options.
    `model`, here or in a call, is a registered name (default: the active model and its chain). A
    tool that must be called, and a `response_format`, are requested as a JSON schema, which works
    with every model; the answer must be an object, and is not validated further.

    Raises:
        MissingDependencyError: the openai package, whose types are returned, is not installed.
    """
    _require_openai()

    def create(*, messages: Sequence[Any], **options: Any) -> ChatCompletion:
        arguments = _arguments(messages, options, model)
        response = manager.complete(arguments.messages, **arguments.options)
        return _completion(response, arguments.forced_tool)

    return create


def achat_create(
    manager: LLMManager, *, model: str | None = None
) -> Callable[..., Coroutine[Any, Any, ChatCompletion]]:
    """Like `chat_create`, for asyncio."""
    _require_openai()

    async def create(*, messages: Sequence[Any], **options: Any) -> ChatCompletion:
        arguments = _arguments(messages, options, model)
        response = await manager.acomplete(arguments.messages, **arguments.options)
        return _completion(response, arguments.forced_tool)

    return create


class _Arguments(NamedTuple):
    """The arguments of `LLMManager.complete`."""

    messages: list[Message]
    options: dict[str, Any]
    forced_tool: str | None
    """The tool that must be called: the answer is its arguments."""


def _require_openai() -> None:
    try:
        import openai.types.chat  # noqa: F401 - only to see whether it is installed
    except ImportError:
        raise MissingDependencyError(
            "chat_create returns types of the openai package, which is not installed",
            hint='pip install "agentkit-llms[openai]"',
        ) from None


def _arguments(messages: Sequence[Any], options: dict[str, Any], model: str | None) -> _Arguments:
    if options.pop("stream", None):
        raise ConfigurationError(
            "chat_create does not stream", hint="use manager.stream(…, response_model=…).partials()"
        )
    options.setdefault("model", model)
    schema = _schema_of(options.pop("response_format", None))
    tools = [tool_spec(each) for each in options.pop("tools", None) or ()]
    choice = options.pop("tool_choice", None)
    forced = None
    if isinstance(choice, Mapping):
        forced = choice.get("function", choice).get("name")
    elif choice == "required" and len(tools) == 1:
        forced = tools[0].name
    for spec in tools:
        if spec.name == forced:
            schema = JSONSchema(spec.name, {**spec.parameters, "description": spec.description})
    if forced is None and tools:
        options["tools"] = tools
        if choice is not None:
            options["tool_choice"] = choice
    converted = [_message(each) for each in messages]
    if schema is not None:
        options["response_model"] = schema
        if "tools" not in options:
            converted = [_without_tools(each) for each in converted]
    return _Arguments(converted, options, forced)


def _schema_of(response_format: Any) -> JSONSchema | None:
    if not isinstance(response_format, Mapping) or response_format.get("type") == "text":
        return None
    given = response_format.get("json_schema", {})
    return JSONSchema(str(given.get("name", "answer")), given.get("schema", {"type": "object"}))


def _message(each: Any) -> Message:
    if isinstance(each, Message):
        return each
    try:
        role = MessageRole.SYSTEM if each["role"] == "developer" else each["role"]
        calls = tuple(_call(call) for call in each.get("tool_calls") or ())
        return Message(
            role, each.get("content") or "", tool_calls=calls, tool_call_id=each.get("tool_call_id")
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RequestValidationError(
            f"a message is not in the format of chat completions: {type(error).__name__}",
            validation_errors=[f"messages: {type(error).__name__}"],
            hint="use dicts with role and content",
        ) from None


def _without_tools(message: Message) -> Message:
    """Earlier calls and results as text: without tools, a provider may reject them."""
    if message.role is MessageRole.TOOL:
        return Message(MessageRole.USER, message.content)
    if message.tool_calls:
        texts = [message.text, *(json.dumps(call.arguments) for call in message.tool_calls)]
        return Message(MessageRole.ASSISTANT, "\n".join(filter(None, texts)))
    return message


def _call(call: Mapping[str, Any]) -> ToolCall:
    function = call["function"]
    return ToolCall(call["id"], function["name"], json.loads(function["arguments"] or "{}"))


def _completion(response: Response[Any], forced_tool: str | None) -> ChatCompletion:
    from openai.types.chat import ChatCompletion

    calls = [(call.id, call.name, json.dumps(dict(call.arguments))) for call in response.tool_calls]
    text: str | None = response.text
    if response.parsed is not None:
        text = json.dumps(response.parsed)
        if forced_tool is not None:
            calls, text = [("call_1", forced_tool, text)], None
    usage = response.usage
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in calls
        ]
    finish_reason = _FINISH_REASONS.get((response.finish_reason or "").lower())
    return ChatCompletion.model_validate(
        {
            "id": response.response_id or "chatcmpl-agentkit",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": response.model,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish_reason or ("tool_calls" if calls else "stop"),
                    "message": message,
                }
            ],
            "usage": {
                "prompt_tokens": usage.input_tokens,
                "completion_tokens": usage.output_tokens,
                "total_tokens": usage.total_tokens,
                "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
                "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            },
        }
    )
