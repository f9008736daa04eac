"""The agent: runs tasks while its life cycle allows it, and remembers how they went."""

from __future__ import annotations

import os
import time
import uuid
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from agentkit.agent.calling import acall, call, name_of, require_callable
from agentkit.agent.performance import Performance, TaskFailure
from agentkit.agent.spans import Invocations
from agentkit.agent.states import Lifecycle
from agentkit.errors import ConfigurationError, UnknownModelError
from agentkit.types import Clock

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from agentkit.manager import LLMManager
    from agentkit.telemetry.recorder import Health

P = ParamSpec("P")
T = TypeVar("T")


class Agent:
    """Runs callables as tasks and reasons through its manager.

    It starts as ``initialized`` and accepts tasks only while ``running``: `start` (also after
    `stop`), `pause`, `resume` and `stop` move it. A task under way is not touched by a move.
    Safe to use from many threads and event loops at once.

    Args:
        name: names the agent in messages and telemetry.
        role: what the agent is for, in words.
        capabilities: what it can do, one word or phrase each.
        config: settings, kept as a read-only copy. Read is ``llm_manager``, an `LLMManager`.
        clock: seconds; measures the tasks.
        tracer_provider: OpenTelemetry providers (default: the global ones).
        meter_provider: likewise, for metrics.

    Attributes:
        id: a random UUID as text.
        name, role: as given. capabilities: as a tuple. config: as a read-only mapping.

    Raises:
        ConfigurationError: a value cannot work; the message names it and the remedy.
    """

    def __init__(
        self,
        name: str,
        role: str,
        capabilities: Iterable[str] = (),
        config: Mapping[str, Any] | None = None,
        *,
        clock: Clock = time.monotonic,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self.id = str(uuid.uuid4())
        self.name = _text("name", name)
        self.role = _text("role", role)
        self.capabilities = _capabilities(capabilities)
        self.config = _config(config)
        self._clock = clock
        self._lifecycle = Lifecycle(name)
        self._performance = Performance()
        self._invocations = Invocations(name, self.id, tracer_provider, meter_provider)
        _alive.add(self)

    @property
    def status(self) -> str:
        """``"initialized"``, ``"running"``, ``"paused"`` or ``"stopped"``."""
        return self._lifecycle.state

    @property
    def llm_manager(self) -> LLMManager | None:
        """The manager in ``config["llm_manager"]``, or None."""
        return self.config.get("llm_manager")

    def start(self) -> None:
        """Accept tasks. Raises `AgentStateError` unless initialized or stopped."""
        self._lifecycle.apply("start")

    def pause(self) -> None:
        """Refuse new tasks until `resume`. Raises `AgentStateError` unless running."""
        self._lifecycle.apply("pause")

    def resume(self) -> None:
        """Accept tasks again. Raises `AgentStateError` unless paused."""
        self._lifecycle.apply("resume")

    def stop(self) -> None:
        """Refuse new tasks until `start`. Raises `AgentStateError` if stopped already."""
        self._lifecycle.apply("stop")

    @overload
    def execute_task(
        self, task: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    def execute_task(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def execute_task(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """The result of ``task(*args, **kwargs)``; what it raises is recorded and raised as it is.

        Any callable will do. It is called in this thread. If it gives an awaitable, that is run
        to its end on an event loop of its own: in this thread, or on a short-lived one when a loop
        is running here, which is blocked meanwhile (prefer `aexecute_task` there). Such a
        coroutine cannot wait for what belongs to another loop.

        Raises:
            AgentStateError: the agent is not running.
            ConfigurationError: `task` is not callable.
        """
        self._admit(task, "execute_task")
        return self._perform(task, args, kwargs)

    @overload
    async def aexecute_task(
        self, task: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    async def aexecute_task(
        self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    async def aexecute_task(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Like `execute_task`, for asyncio.

        What is async is awaited in this task. Anything else is called on a daemon thread of its
        own, context variables copied, so that it never blocks the loop; when this is cancelled,
        that thread finishes on its own and its result is dropped. A `StopIteration` arrives as
        `RuntimeError`, as from every coroutine.
        """
        self._admit(task, "aexecute_task")
        return await self._aperform(task, args, kwargs)

    def ask(self, prompt: str, **kwargs: Any) -> str:
        """The manager's answer to `prompt`; `kwargs` are those of `LLMManager.generate`.

        Counts as a task of its own, also inside of another task.

        Raises:
            AgentStateError: the agent is not running.
            ConfigurationError: the agent has no manager.
            LLMError: no answer; `.ledger` tells every attempt.
        """
        generate = self._require_manager().generate
        self._lifecycle.require_running("ask")
        answer: str = self._perform(generate, (prompt,), kwargs)
        return answer

    async def aask(self, prompt: str, **kwargs: Any) -> str:
        """Like `ask`, for asyncio."""
        generate = self._require_manager().agenerate
        self._lifecycle.require_running("aask")
        answer: str = await self._aperform(generate, (prompt,), kwargs)
        return answer

    def get_performance_metrics(self) -> dict[str, Any]:
        """How this agent's tasks went, since it was made.

        Keys: total_tasks (those that ended), successful_tasks, failed_tasks,
        total_execution_time and average_execution_time (seconds, over total_tasks), success_rate
        (fraction of successes among successes and failures, 1.0 before any) and error_count
        (the errors raised, also those that `error_log` no longer holds). A task that was
        cancelled or interrupted is neither a success nor a failure.
        """
        return self._performance.metrics()

    @property
    def error_log(self) -> tuple[TaskFailure, ...]:
        """The last 100 failures, oldest first."""
        return self._performance.failures

    def model_health(self) -> dict[str, Health]:
        """How each of the manager's models did lately, by name, for deciding by it.

        Raises:
            ConfigurationError: the agent has no manager.
        """
        manager = self._require_manager()
        healths = {}
        for name in manager.list_models():
            try:
                healths[name] = manager.health(name)
            except UnknownModelError:  # unregistered by another thread in between
                continue
        return healths

    def __repr__(self) -> str:
        return f"<Agent {self.name} ({self.role}): {self.status}>"

    def renew_after_fork(self) -> None:
        """Fresh locks, in a forked child; state and counters stay."""
        self._lifecycle.renew_after_fork()
        self._performance.renew_after_fork()

    def _admit(self, task: Any, method: str) -> None:
        require_callable(task)
        self._lifecycle.require_running(method)

    def _require_manager(self) -> LLMManager:
        manager = self.llm_manager
        if manager is None:
            raise ConfigurationError(
                f"agent {self.name!r} has no manager to ask",
                hint='make it with config={"llm_manager": manager}',
            )
        return manager

    def _perform(
        self, task: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        with _Watch(task, self._clock, self._performance, self._invocations):
            return call(task, args, kwargs)

    async def _aperform(
        self, task: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        with _Watch(task, self._clock, self._performance, self._invocations):
            return await acall(task, args, kwargs)


class _Watch:
    """Around one task: its span is current, and its end is counted once."""

    def __init__(
        self,
        task: Callable[..., Any],
        clock: Clock,
        performance: Performance,
        invocations: Invocations,
    ) -> None:
        self._task = task
        self._clock = clock
        self._performance = performance
        self._invocations = invocations

    def __enter__(self) -> None:
        self._opened = self._invocations.begin()
        self._started = self._clock()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        seconds = self._clock() - self._started
        self._performance.record(name_of(self._task), seconds, error)
        self._invocations.end(self._opened, seconds, error)


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(
            f"the agent's {what} is {value!r}", hint=f"give a {what} that is a non-empty str"
        )
    return value


def _capabilities(given: Any) -> tuple[str, ...]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigurationError(
            f"capabilities is {given!r}", hint='give a list of str, such as ["conversation"]'
        )
    return tuple(_text("capability", each) for each in given)


def _config(given: Any) -> Mapping[str, Any]:
    if given is None:
        return MappingProxyType({})
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            f"config must be a mapping, got {type(given).__name__}",
            hint='give a dict, such as {"llm_manager": manager}',
        )
    manager = given.get("llm_manager")
    wanted = ("generate", "agenerate")
    if manager is not None and not all(callable(getattr(manager, x, None)) for x in wanted):
        raise ConfigurationError(
            f'config["llm_manager"] is of type {type(manager).__name__} and has no generate() '
            "and agenerate()",
            hint="give an agentkit.LLMManager",
        )
    return MappingProxyType(dict(given))


_alive: weakref.WeakSet[Agent] = weakref.WeakSet()


def _renew_all() -> None:
    for agent in list(_alive):
        agent.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
