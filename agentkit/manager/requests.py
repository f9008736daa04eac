"""The `Request` for a prompt or a conversation, validated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from agentkit.errors import ConfigurationError, InvalidResponseError, RequestValidationError
from agentkit.output.tools import tool_specs
from agentkit.output.validation import TypeCheck, check_for
from agentkit.policy.validation import number
from agentkit.types import Message, Request, Response
from agentkit.types.initializer import fast_maker
from agentkit.types.response import ResponseModel

_FIELDS = ("prompt", "params", "tools", "use_cache", "stream", "priority")
_prompt_request = fast_maker(Request(), *_FIELDS)

HIGHEST_PRIORITY = 1_000_000

Prompt: TypeAlias = str | Sequence[Message | Mapping[str, Any]]


def request_for(
    prompt: Prompt,
    params: Mapping[str, Any],
    *,
    tools: Sequence[Any] | None = None,
    use_cache: bool = True,
    stream: bool = False,
    priority: int = 0,
) -> Request:
    """The request for a prompt (a string) or a conversation (messages, or dicts of their fields).

    Raises:
        RequestValidationError: `prompt` is empty, or of another type.
        ConfigurationError: `priority` is not a number between -1,000,000 and 1,000,000.
    """
    if priority != 0:
        number("priority", priority, minimum=-HIGHEST_PRIORITY, maximum=HIGHEST_PRIORITY)
    offered = () if tools is None else tool_specs(tools)
    if not isinstance(prompt, str):
        return Request(
            messages=_messages(prompt),
            params=params,
            tools=offered,
            use_cache=use_cache,
            stream=stream,
            priority=priority,
        )
    if not prompt or prompt.isspace():
        raise RequestValidationError(
            "the prompt is empty",
            validation_errors=["prompt: empty"],
            hint="pass a string that is not only white space",
        )
    return _prompt_request(  # positional: by keyword, each call takes longer
        prompt, params, offered, use_cache, stream, priority
    )


def merge_params(params: Mapping[str, Any] | None, options: dict[str, Any]) -> Mapping[str, Any]:
    """The model's parameters: those given as keywords, and those in `params`.

    Raises:
        ConfigurationError: `params` is not a mapping, or a parameter is given in both.
    """
    if params is None:
        return options
    if not isinstance(params, Mapping):
        raise ConfigurationError(
            f"params must be a mapping, got {params!r}", hint='pass params={"name": value}'
        )
    for name in options:
        if name in params:
            raise ConfigurationError(
                f"the parameter {name!r} is set twice", hint=f"pass {name}= or params=, not both"
            )
    return {**params, **options}


def check_or_none(
    response_model: ResponseModel[Any] | None, request: Request
) -> tuple[TypeCheck | None, Request]:
    """The check of a response type and the request for it, if there is one."""
    return (None, request) if response_model is None else check_for(response_model, request)


def answer_of(response: Response[Any], *, validated: bool) -> Any:
    """The text of `response`, or its instance.

    Raises:
        InvalidResponseError: it has tool calls, which its text leaves out.
    """
    if response.tool_calls:
        names = ", ".join(dict.fromkeys(call.name for call in response.tool_calls))
        error = InvalidResponseError(
            f"the model calls {names} instead of answering",
            provider=response.provider,
            model=response.model,
            hint="use complete() and its .tool_calls, or an Agent, which runs the tools",
            ledger=response.ledger,
        )
        error.retryable = False
        raise error
    return response.parsed if validated else response.text


def conversation(prompt: Prompt) -> tuple[Message, ...]:
    """The messages of a prompt; a string is one user message.

    Raises:
        RequestValidationError: `prompt` is empty, or of another type.
    """
    return request_for(prompt, {}).conversation


def _messages(prompt: Any) -> tuple[Message, ...]:
    if isinstance(prompt, bytes | Mapping) or not isinstance(prompt, Sequence):
        raise RequestValidationError(
            f"the prompt must be a str or a list of messages, got {type(prompt).__name__}",
            validation_errors=[f"prompt: {type(prompt).__name__}"],
            hint="pass a string, or a list of Message objects or dicts with role and content",
        )
    if not prompt:
        raise RequestValidationError(
            "the conversation is empty",
            validation_errors=["messages: empty"],
            hint="pass at least one message",
        )
    return tuple(_message(each, index) for index, each in enumerate(prompt))


def _message(each: Any, index: int) -> Message:
    if isinstance(each, Message):
        return each
    if isinstance(each, Mapping) and "role" in each and "content" in each:
        try:
            return Message(**each)
        except TypeError as error:
            raise RequestValidationError(
                f"message {index} has unknown fields: {error}",
                validation_errors=[f"messages[{index}]: {error}"],
                hint="use role, content, metadata, tool_calls, tool_call_id",
            ) from None
    raise RequestValidationError(
        f"message {index} is {type(each).__name__}, not a message",
        validation_errors=[f"messages[{index}]: {type(each).__name__}"],
        hint="use Message(role, content) or a dict with role and content",
    )
