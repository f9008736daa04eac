"""The agent: runs tasks while its life cycle allows it, and remembers how they went."""

from __future__ import annotations

import os
import time
import uuid
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from agentkit.agent.crossing import acall, call, name_of, require_callable
from agentkit.agent.lifecycle import Lifecycle
from agentkit.agent.loop import AgentResult, Limits, Run
from agentkit.agent.memory import Memory
from agentkit.agent.spans import Executions, Invocations
from agentkit.agent.statistics import Performance, TaskFailure
from agentkit.agent.toolbox import Toolbox
from agentkit.agent.validation import capabilities_of, config_of, text
from agentkit.errors import ConfigurationError, UnknownModelError
from agentkit.manager.requests import Prompt
from agentkit.types import Clock

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from agentkit.manager.manager import LLMManager
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
        config: settings, kept as a read-only copy. Read are ``llm_manager``, an `LLMManager`, and
            ``memory``, a `Memory` for `run`.
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
        self.name = text("name", name)
        self.role = text("role", role)
        self.capabilities = capabilities_of(capabilities)
        self.config = config_of(config)
        self._clock = clock
        self._lifecycle = Lifecycle(name)
        self._performance = Performance()
        self._invocations = Invocations(name, self.id, tracer_provider, meter_provider)
        self._executions = Executions(name, tracer_provider, meter_provider)
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

    def run(
        self,
        prompt: Prompt,
        tools: Sequence[Any] | None = None,
        response_model: type[Any] | None = None,
        *,
        max_steps: int = 10,
        deadline: float | None = None,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        tool_timeout: float = 30.0,
        max_tool_output: int = 50_000,
        memory: Memory | None = None,
        **params: Any,
    ) -> AgentResult[Any]:
        """Ask, run the tools that the answer wishes for side by side, and ask again: to an answer.

        What goes wrong in a tool is no error of the run: an exception (its class and text), an
        unknown name, arguments that do not fit, and a time limit are told to the model. A blocking
        tool that outlives its time is let go of, an async one cancelled. Here async tools run on
        an event loop that lasts for one round of tools; prefer `arun` for those that keep
        connections. Counts as one task.

        Args:
            prompt: text, or a list of messages.
            tools: functions (see `agentkit.tools`), or `ToolSpec` objects with `fn`.
            response_model: the final answer is validated into `AgentResult.parsed`.
            max_steps: most times the model is asked (default 10).
            deadline: seconds for everything (default: none, and the manager's for each ask).
            max_cost: USD; once it is reached the model is not asked again (default: no limit).
                Needs ``cost_per_1k_tokens`` in the metadata of every model that may answer.
            max_tokens: of the whole run, input and output; likewise. Not the model's own limit.
            tool_timeout: seconds for each tool call (default 30).
            max_tool_output: characters of a tool's result that the model is told (default 50,000).
            memory: what went before, to which this run is added once it has an answer (default:
                ``config["memory"]``, if there is one).
            params: further arguments of `LLMManager.complete`, such as `model`, and the model's
                own options.

        Raises:
            AgentStateError: the agent is not running.
            ConfigurationError: a tool or a limit that cannot work, or no manager.
            StepLimitError: `max_steps` asks brought no answer.
            AgentError: `max_cost` or `max_tokens` was reached before an answer.
            DeadlineExceededError: the deadline passed.
            LLMError: the model gave no answer; `.ledger` tells every attempt.
        """
        self._lifecycle.require_running("run")
        limits = Limits(max_steps, deadline, max_cost, max_tokens, tool_timeout, max_tool_output)
        run = self._run(prompt, tools, limits, memory, response_model, params)
        result: AgentResult[Any] = self._perform(run.drive, (), {})
        return result

    async def arun(
        self,
        prompt: Prompt,
        tools: Sequence[Any] | None = None,
        response_model: type[Any] | None = None,
        *,
        max_steps: int = 10,
        deadline: float | None = None,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        tool_timeout: float = 30.0,
        max_tool_output: int = 50_000,
        memory: Memory | None = None,
        **params: Any,
    ) -> AgentResult[Any]:
        """Like `run`, for asyncio: async tools are tasks of this loop, others run on threads."""
        self._lifecycle.require_running("arun")
        limits = Limits(max_steps, deadline, max_cost, max_tokens, tool_timeout, max_tool_output)
        run = self._run(prompt, tools, limits, memory, response_model, params)
        result: AgentResult[Any] = await self._aperform(run.adrive, (), {})
        return result

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

    def _run(
        self,
        prompt: Prompt,
        tools: Sequence[Any] | None,
        limits: Limits,
        memory: Memory | None,
        response_model: type[Any] | None,
        params: Mapping[str, Any],
    ) -> Run:
        toolbox = Toolbox(
            tools, self.name, self._executions, self._clock,
            timeout=limits.tool_timeout, max_output=limits.max_tool_output,
        )  # fmt: skip
        chosen = self.config.get("memory") if memory is None else memory
        return Run(
            self._require_manager(), prompt, toolbox, limits, self._clock,
            memory=chosen, response_model=response_model, params=params,
        )  # fmt: skip

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


_alive: weakref.WeakSet[Agent] = weakref.WeakSet()


def _renew_all() -> None:
    for agent in list(_alive):
        agent.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
