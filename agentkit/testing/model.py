"""A model that answers, fails, waits and streams by a script, without network or threads."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from agentkit._fork import fork_safe_lock
from agentkit.testing.clock import FakeClock
from agentkit.testing.faults import Status
from agentkit.testing.script import Action, Delivery, Pause, ScriptError, Step, actions_of
from agentkit.testing.wire.server import words
from agentkit.types import Request, Response

DEFAULT_ANSWER = "The quick brown fox jumps over the lazy dog."
"""The answer of faults without their own, unless `then` is one."""


class ScriptExhaustedError(ScriptError):
    """A scripted model was called more often than its script has steps."""


class RecordedCall(NamedTuple):
    """A call that the model received."""

    number: int
    """The position in order of arrival, from 1."""
    prompt: str
    """The prompt it was given."""
    kwargs: dict[str, Any]
    """The model's own parameters."""
    thread: str
    """The name of the calling thread."""


class ScriptedModel:
    """An inference function for tests; each call takes the next step of its script.

    ::

        primary = ScriptedModel(overloaded(), rate_limited(retry_after=2), "Paris.")
        manager.register_model("primary", primary)

    The object itself is a sync ``f(prompt, kwargs)``. `as_async` and `as_stream` return the same
    model, with the same script and record, as an async function and as a streaming provider. Safe
    to use from many threads.

    Args:
        steps: the steps, one per call; see `Step`: answers, exceptions, faults, pairs of seconds
            and a step, lists of stream events, functions of prompt and options.
        then: the step of every later call; without it they raise `ScriptExhaustedError`. If it is
            a str or a `Response`, it is also the answer of faults without their own.
        latency: seconds that each call takes before its step (default 0).
        clock: the clock that pauses advance; without one they pass in real time. A silence lasts
            until the call is cancelled or `close` is called.
        chunks: splits an answer into the chunks of a stream (default: a chunk per word).
    """

    def __init__(
        self,
        *steps: Step,
        then: Step | None = None,
        latency: float = 0.0,
        clock: FakeClock | None = None,
        chunks: Callable[[str], Sequence[str]] = words,
    ) -> None:
        self._steps = deque(steps)
        self._then = then
        self._latency = latency
        self._clock = clock
        self._chunks = chunks
        self._calls: list[RecordedCall] = []
        self._lock = fork_safe_lock()
        self._closed = threading.Event()
        self._silent: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}

    @property
    def calls(self) -> tuple[RecordedCall, ...]:
        """Every call so far, in order of arrival."""
        with self._lock:
            return tuple(self._calls)

    @property
    def left(self) -> int:
        """The number of steps left in the script; `then` is not counted."""
        return len(self._steps)

    def script(self, *steps: Step) -> None:
        """Append `steps` to the script."""
        with self._lock:
            self._steps.extend(steps)

    def close(self) -> None:
        """End every silence, now and from now on, with a `ConnectionAbortedError`."""
        self._closed.set()
        with self._lock:
            silent = list(self._silent.items())
        for future, loop in silent:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_wake, future)

    def __call__(self, prompt: str, kwargs: dict[str, Any]) -> str | Response[Any]:
        """The next step's answer; raises the next step's exception."""
        for action in self._actions(prompt, kwargs, stream=False):
            if not isinstance(action, Pause):
                return action  # type: ignore[return-value]
            self._pause(action.seconds)
        raise ScriptError("a step without an answer")

    def as_async(self) -> Callable[[str, dict[str, Any]], Any]:
        """This model as an ``async def f(prompt, kwargs)``."""
        return _AsyncModel(self)

    def as_stream(self, *capabilities: str) -> StreamingModel:
        """This model as a provider object that streams, sync and async, with an end mark.

        `capabilities` are those of `Provider`: ``"messages"``, ``"tools"``, ``"prefill"``.
        """
        return StreamingModel(self, capabilities)

    def _actions(self, prompt: str, kwargs: dict[str, Any], *, stream: bool) -> Iterator[Action]:
        with self._lock:
            number = len(self._calls) + 1
            thread = threading.current_thread().name
            self._calls.append(RecordedCall(number, prompt, dict(kwargs), thread))
            step: Any = self._steps.popleft() if self._steps else self._then
        if step is None:
            raise ScriptExhaustedError(
                f"call {number} has no step: the script had {number - 1}; add steps or then="
            )
        while callable(step) and not isinstance(step, type):
            step = step(prompt, kwargs)
        default = self._then if isinstance(self._then, str | Response) else DEFAULT_ANSWER
        if self._latency:
            yield Pause(self._latency)
        yield from actions_of(step, Delivery(stream, default, self._chunks))

    def _pause(self, seconds: float) -> None:
        if seconds == math.inf:
            self._closed.wait()
            raise ConnectionAbortedError("the scripted model was closed")
        if self._clock is not None:
            self._clock.advance(seconds)
        else:
            self._closed.wait(seconds)

    async def _apause(self, seconds: float) -> None:
        if seconds == math.inf:
            await self._wait_for_close()
            raise ConnectionAbortedError("the scripted model was closed")
        if self._clock is not None:
            self._clock.advance(seconds)
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(seconds)

    async def _wait_for_close(self) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._silent[future] = loop
        try:
            if not self._closed.is_set():
                await future
        finally:
            with self._lock:
                del self._silent[future]

    def __repr__(self) -> str:
        rest = f"{self.left} {'step' if self.left == 1 else 'steps'} left"
        if self._then is not None:
            rest += ", then always the same"
        count = len(self._calls)
        return f"<ScriptedModel {count} {'call' if count == 1 else 'calls'}, {rest}>"


class _AsyncModel:
    """A scripted model as an async function."""

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model

    async def __call__(self, prompt: str, kwargs: dict[str, Any]) -> Any:
        for action in self.model._actions(prompt, kwargs, stream=False):
            if not isinstance(action, Pause):
                return action
            await self.model._apause(action.seconds)
        raise ScriptError("a step without an answer")

    def __repr__(self) -> str:
        return f"<async {repr(self.model)[1:]}"


class StreamingModel:
    """A scripted model as a streaming provider; returned by `ScriptedModel.as_stream`."""

    end_mark = True
    """A stream without an `End` is incomplete, as with the built-in providers."""

    def __init__(self, model: ScriptedModel, capabilities: Iterable[str]) -> None:
        self.model = model
        self.capabilities = frozenset(capabilities)

    def stream(self, request: Request) -> Iterator[Any]:
        """The events of the next step."""
        for action in self.model._actions(request.text, dict(request.params), stream=True):
            if isinstance(action, Pause):
                self.model._pause(action.seconds)
            else:
                yield action

    async def astream(self, request: Request) -> AsyncIterator[Any]:
        """The events of the next step, async."""
        for action in self.model._actions(request.text, dict(request.params), stream=True):
            if isinstance(action, Pause):
                await self.model._apause(action.seconds)
            else:
                yield action

    def __repr__(self) -> str:
        return f"<streaming {repr(self.model)[1:]}"


def overloaded(*, retry_after: float | None = None) -> Status:
    """The provider is out of capacity (529). `retry_after` in seconds."""
    return Status(529, retry_after=retry_after)


def rate_limited(*, retry_after: float | None = None) -> Status:
    """The provider limits the rate (429). `retry_after` in seconds."""
    return Status(429, retry_after=retry_after)


def server_error() -> Status:
    """The provider fails (500)."""
    return Status(500)


def unauthorized() -> Status:
    """The provider rejects the key (401)."""
    return Status(401)


def timeout() -> TimeoutError:
    """A client library timed out; raised immediately, without the wait."""
    return TimeoutError("no answer in time")


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
