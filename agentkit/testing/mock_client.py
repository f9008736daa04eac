"""A client that answers what it was told to, in the place of `LLMClient`."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple

from agentkit._fork import fork_safe_lock
from agentkit.errors import ConfigurationError
from agentkit.manager.client import LLMClient
from agentkit.manager.manager import LLMManager
from agentkit.manager.requests import Prompt
from agentkit.policy.retry import RetryPolicy
from agentkit.testing.wire.server import words
from agentkit.types import End, Message, Request, Response, StreamEvent, TextDelta


class MockCall(NamedTuple):
    """One call as the mock received it."""

    messages: tuple[Message, ...]
    """The conversation up to this call."""
    options: dict[str, Any]
    """The model's own parameters."""
    stream: bool
    """Whether a stream was requested."""


class MockLLMClient(LLMClient):
    """An `LLMClient` without a provider: each call takes the next response.

    ::

        client = MockLLMClient(responses=["Response 1", "Response 2"])
        assert (await client.complete(messages)).content == "Response 1"

    Everything else is real: options, validation of a `response_model`, streams (a word a piece),
    errors of the tree. A response that does not match a `response_model` is rejected at once, so
    that no other one is used up; a `retry_after` of one call delays no later one.

    Args:
        responses: texts, `Response` objects (for tool calls or usage), dicts and pydantic
            instances (their JSON), exceptions (raised), or functions of the list of messages that
            give one of these. When none is left, a `ConfigurationError` says so.
    """

    def __init__(self, responses: Iterable[Any] = ()) -> None:
        self._model = _Mock(responses)
        manager = LLMManager(
            name="mock", enable_caching=False, breaker=False, retry=RetryPolicy(max_attempts=1)
        )
        manager.register_model("mock", self._model)
        self.manager = manager
        """The manager behind the client."""
        super().__init__(manager, None, "mock")

    @property
    def calls(self) -> list[MockCall]:
        """Every call so far, in order."""
        return list(self._model.calls)

    @property
    def remaining(self) -> int:
        """How many responses are left."""
        return len(self._model.responses)

    async def close(self) -> None:
        """End what the mock's manager started. Safe to call twice."""
        await self.manager.aclose()

    def _options(self, messages: Prompt, given: dict[str, Any]) -> tuple[Prompt, dict[str, Any]]:
        # What an earlier response asked to wait concerns a real provider only.
        self.manager.reset_circuit_breaker("mock")
        return super()._options(messages, given)


class _Mock:
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
        yield End(response.finish_reason, response.usage, response.tool_calls)

    def _next(self, request: Request) -> Response[Any]:
        with self._lock:
            self.calls.append(MockCall(request.conversation, dict(request.params), request.stream))
            if not self.responses:
                raise ConfigurationError(
                    f"the mock has no response left for call {len(self.calls)}: "
                    f"{self._given} were given",
                    hint="give it more responses=",
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
        f"a mock cannot answer with {type(step).__name__}",
        hint="give a text, a Response, a dict, a pydantic instance, an exception or a function",
    )
