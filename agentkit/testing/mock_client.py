"""A client for tests that takes its responses from a list, in place of `LLMClient`."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple

from agentkit._fork import fork_safe_lock
from agentkit.engine.drivers.streams import AsyncStream
from agentkit.errors import ConfigurationError
from agentkit.manager.client import LLMClient
from agentkit.manager.manager import LLMManager
from agentkit.manager.requests import Prompt
from agentkit.policy.retry import RetryPolicy
from agentkit.testing.wire.server import words
from agentkit.types import End, Message, Request, Response, StreamEvent, TextDelta


class MockCall(NamedTuple):
    """A call that the mock received."""

    messages: tuple[Message, ...]
    """The conversation up to this call."""
    options: dict[str, Any]
    """The model's own parameters."""
    stream: bool
    """Whether a stream was requested."""


class MockLLMClient(LLMClient):
    """An `LLMClient` without a provider: each call returns the next response.

    ::

        client = MockLLMClient(responses=["Response 1", "Response 2"])
        assert (await client.complete(messages)).content == "Response 1"

    Everything else is real: options, validation of a `response_model`, streams (a chunk per word)
    and errors. A response that does not match a `response_model` is rejected immediately, so that
    it does not use up the next one; a `retry_after` of one call does not delay later calls.

    Args:
        responses: texts, `Response` objects (for tool calls or usage), dicts and pydantic
            instances (their JSON), exceptions (raised), or functions that take the list of messages
            and return one of these. A call without a response left raises `ConfigurationError`.
    """

    def __init__(self, responses: Iterable[Any] = ()) -> None:
        self._model = _MockModel(responses)
        manager = LLMManager(
            name="mock", enable_caching=False, breaker=False, retry=RetryPolicy(max_attempts=1)
        )
        manager.register_model("mock", self._model)
        self.manager = manager
        """The manager behind the client."""
        super().__init__(_Undelayed(manager), None, "mock")

    @property
    def calls(self) -> list[MockCall]:
        """Every call so far, in order."""
        return list(self._model.calls)

    @property
    def remaining(self) -> int:
        """The number of responses that are left."""
        return len(self._model.responses)

    async def close(self) -> None:
        """Close the mock's manager. Safe to call twice."""
        await self.manager.aclose()


class _Undelayed:
    """The mock's manager, where a Retry-After of an earlier response does not delay a call."""

    def __init__(self, manager: LLMManager) -> None:
        self._manager = manager

    async def acomplete(self, prompt: Prompt, **arguments: Any) -> Response[Any]:
        self._manager.reset_circuit_breaker("mock")
        return await self._manager.acomplete(prompt, **arguments)

    def astream(self, prompt: Prompt, **arguments: Any) -> AsyncStream:
        self._manager.reset_circuit_breaker("mock")
        return self._manager.astream(prompt, **arguments)


class _MockModel:
    provider = "mock"
    end_mark = True
    capabilities = frozenset({"messages", "tools", "vision", "json_schema", "json_object"})

    def __init__(self, responses: Iterable[Any]) -> None:
        self.responses = deque(responses)
        self.calls: list[MockCall] = []
        self._given = len(self.responses)
        self._lock = fork_safe_lock()

    async def asend(self, request: Request) -> Response[Any]:
        return self._next(request)

    async def astream(self, request: Request) -> AsyncIterator[StreamEvent]:
        response = self._next(request)
        for piece in words(response.text):
            yield TextDelta(piece)
        yield End(response.finish_reason, response.usage, response.tool_calls, state=response.state)

    def _next(self, request: Request) -> Response[Any]:
        with self._lock:
            self.calls.append(MockCall(request.conversation, dict(request.params), request.stream))
            if not self.responses:
                raise ConfigurationError(
                    f"the mock has no response left for call {len(self.calls)}: "
                    f"it was given {self._given}",
                    hint="pass more responses=",
                )
            step = self.responses.popleft()
        if callable(step) and not isinstance(step, type):
            step = step(list(request.conversation))
        if isinstance(step, BaseException):
            raise step
        return _response(step)


def _response(step: Any) -> Response[Any]:
    if isinstance(step, Response):
        return step
    if isinstance(step, str):
        return Response(step, finish_reason="stop")
    dumped = getattr(step, "model_dump_json", None)
    if dumped is not None:
        return Response(dumped(), finish_reason="stop")
    if isinstance(step, Mapping | list):
        return Response(json.dumps(step), finish_reason="stop")
    raise ConfigurationError(
        f"a mock cannot return an object of type {type(step).__name__}",
        hint="use a str, a Response, a dict, a pydantic instance, an exception or a function",
    )
