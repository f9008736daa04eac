"""An async client of one provider, backed by a manager."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Protocol, Self, overload

from agentkit.engine.drivers.streams import AsyncStream
from agentkit.manager.requests import Prompt, conversation
from agentkit.policy.retry import RetryPolicy
from agentkit.types import Message, MessageRole, Response
from agentkit.types.response import ResponseModel, T


class Completer(Protocol):
    """The part of a manager that a client uses."""

    async def acomplete(self, prompt: Prompt, **options: Any) -> Response[Any]:
        """See `LLMManager.acomplete`."""
        ...

    def astream(self, prompt: Prompt, **options: Any) -> AsyncStream:
        """See `LLMManager.astream`."""
        ...


class LLMProvider(StrEnum):
    """Providers by name. Any other provider is a string."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GOOGLE = "google"
    GROQ = "groq"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMConfig:
    """The options of a call: ``await client.complete(messages, **config.to_dict())``.

    Args:
        temperature: the randomness of the response (default: the provider's).
        max_tokens: the most tokens of the response (default: the provider's).
        max_retries: the most attempts, including the first (default 3).
        retry_delay: nominal seconds before the first retry (default 1.0).
        timeout: time limit of the call in seconds, including retries (default 30.0).
        system_prompt: a system message to put before the conversation.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    max_retries: int = 3
    retry_delay: float = 1.0
    timeout: float = 30.0
    system_prompt: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The options that are set, as keyword arguments of `LLMClient.complete`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class LLMClient:
    """Calls one provider of a manager, or its entire route, with the manager's policies.

    Created by `LLMManager.get_client`. Works in any event loop, and in several.
    """

    def __init__(self, manager: Completer, models: tuple[str, ...] | None, provider: str) -> None:
        self._manager = manager
        self._models = models
        self.provider = provider

    @overload
    async def complete(
        self,
        messages: Prompt,
        *,
        response_model: ResponseModel[T],
        tools: None = None,
        **options: Any,
    ) -> T: ...
    @overload
    async def complete(
        self,
        messages: Prompt,
        *,
        response_model: ResponseModel[T],
        tools: Sequence[Any],
        **options: Any,
    ) -> T | Response[T]: ...
    @overload
    async def complete(
        self,
        messages: Prompt,
        *,
        response_model: None = None,
        tools: Sequence[Any] | None = None,
        **options: Any,
    ) -> Response[Any]: ...
    async def complete(
        self,
        messages: Prompt,
        *,
        response_model: ResponseModel[Any] | None = None,
        tools: Sequence[Any] | None = None,
        **options: Any,
    ) -> Any:
        """Return the complete `Response`, or with a `response_model`, the validated instance.

        Args:
            messages: a list of messages, or a string.
            response_model: see `LLMManager.complete`.
            tools: the tools that the model may call. If it calls one, the `Response` with its
                `tool_calls` is returned, even with a `response_model`.
            options: the options of `LLMConfig`, `deadline`, and the model's own parameters.

        Raises:
            LLMError: no model answered. `.ledger` lists every attempt.
        """
        prompt, options = self._options(messages, options)
        response = await self._manager.acomplete(
            prompt, model=self._models, response_model=response_model, tools=tools, **options
        )
        calls_tools = bool(response.tool_calls)
        return response if response_model is None or calls_tools else response.parsed

    async def chat(self, text: str, **options: Any) -> str:
        """Return the text of the response to one message."""
        response: Response[Any] = await self.complete(text, **options)
        return response.text

    def stream_complete(
        self,
        messages: Prompt,
        *,
        response_model: ResponseModel[T] | None = None,
        **options: Any,
    ) -> AsyncStream[T]:
        """Return a stream of text: ``async for chunk in client.stream_complete(messages)``."""
        prompt, options = self._options(messages, options)
        return self._manager.astream(
            prompt, model=self._models, response_model=response_model, **options
        )

    def stream_chat(self, text: str, **options: Any) -> AsyncStream[Any]:
        """Return a stream of the response to one message."""
        return self.stream_complete(text, **options)

    async def close(self) -> None:
        """Does nothing, because the connections belong to the manager."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<LLMClient {self.provider}>"

    def _options(self, messages: Prompt, given: dict[str, Any]) -> tuple[Prompt, dict[str, Any]]:
        options = dict(given)
        system = options.pop("system_prompt", None)
        timeout = options.pop("timeout", None)
        attempts, delay = options.pop("max_retries", None), options.pop("retry_delay", None)
        if timeout is not None:
            options.setdefault("deadline", timeout)
        if attempts is not None or delay is not None:
            default = RetryPolicy()
            options.setdefault(
                "retry",
                RetryPolicy(
                    max_attempts=default.max_attempts if attempts is None else attempts,
                    base_delay=default.base_delay if delay is None else delay,
                ),
            )
        if system is None:
            return messages, options
        turns: Sequence[Message] = conversation(messages)
        return [Message(MessageRole.SYSTEM, system), *turns], options
