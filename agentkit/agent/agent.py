"""The agent: runs tasks while its life cycle allows it, and keeps their statistics."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, overload

from agentkit.agent.callables import acall, call, name_of, require_callable
from agentkit.agent.lifecycle import Lifecycle
from agentkit.agent.loop import AgentResult, Run, RunLimits
from agentkit.agent.memory import Memory
from agentkit.agent.spans import Executions, Invocations
from agentkit.agent.statistics import Performance, TaskFailure
from agentkit.agent.toolbox import Toolbox
from agentkit.agent.validation import capabilities_of, config_of, text
from agentkit.errors import ConfigurationError, UnknownModelError
from agentkit.manager.requests import Prompt
from agentkit.types import Now
from agentkit.types.response import ResponseModel, T

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from agentkit.manager.manager import LLMManager
    from agentkit.telemetry.recorder import Health

P = ParamSpec("P")


class Agent:
    """Runs callables as tasks, and asks models through its manager.

    A new agent is ``initialized``; it accepts tasks only while it is ``running``. `start` (also
    after `stop`), `pause`, `resume` and `stop` change its state; they do not affect running tasks.
    Safe to use from many threads and event loops at once.

    Args:
        name: names the agent in messages and telemetry.
        role: what the agent is for, in words.
        capabilities: what it can do, one word or phrase each.
        config: settings, kept as a read-only copy. The agent reads ``llm_manager``, an
            `LLMManager`, and ``memory``, a `Memory` for `run`.
        clock: a monotonic clock in seconds; measures the tasks.
        tracer_provider: OpenTelemetry provider of spans (default: the global one).
        meter_provider: OpenTelemetry provider of metrics (default: the global one).

    Attributes:
        id: a random UUID, as a str.
        name, role: as given. capabilities: as a tuple. config: as a read-only mapping.

    Raises:
        ConfigurationError: a value cannot work; the message says which, and the remedy.
    """

    def __init__(
        self,
        name: str,
        role: str,
        capabilities: Iterable[str] = (),
        config: Mapping[str, Any] | None = None,
        *,
        clock: Now = time.monotonic,
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
        """The result of ``task(*args, **kwargs)``; an exception is recorded and propagates.

        `task` may be any callable and is called in this thread. If it returns an awaitable, that
        is run to its end on an event loop of its own: in this thread, or on a short-lived thread
        when a loop is already running here, which is blocked meanwhile (prefer `aexecute_task`
        there). Such a coroutine cannot await objects that belong to another loop.

        Raises:
            AgentStateError: the agent is not running.
            ConfigurationError: `task` is not callable.
        """
        self._admit(task, "execute_task")
        return self._execute(task, args, kwargs)

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

        An async callable is awaited in this task. Any other is called on a daemon thread of its
        own, with the context variables copied, so that it never blocks the loop; when this
        coroutine is cancelled, the thread finishes on its own and its result is dropped. A
        `StopIteration` becomes a `RuntimeError`, as in every coroutine.
        """
        self._admit(task, "aexecute_task")
        return await self._aexecute(task, args, kwargs)

    def ask(self, prompt: str, **kwargs: Any) -> str:
        """The manager's answer to `prompt`; `kwargs` are those of `LLMManager.generate`.

        Counts as a task of its own, even inside another task.

        Raises:
            AgentStateError: the agent is not running.
            ConfigurationError: the agent has no manager.
            LLMError: no model answered; `.ledger` lists every attempt.
        """
        generate = self._require_manager().generate
        self._lifecycle.require_running("ask")
        answer: str = self._execute(generate, (prompt,), kwargs)
        return answer

    async def aask(self, prompt: str, **kwargs: Any) -> str:
        """Like `ask`, for asyncio."""
        generate = self._require_manager().agenerate
        self._lifecycle.require_running("aask")
        answer: str = await self._aexecute(generate, (prompt,), kwargs)
        return answer

    def run(
        self,
        prompt: Prompt,
        tools: Sequence[Any] | None = None,
        response_model: ResponseModel[T] | None = None,
        *,
        max_steps: int = 10,
        deadline: float | None = None,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        tool_timeout: float = 30.0,
        max_tool_output: int = 50_000,
        memory: Memory | None = None,
        **params: Any,
    ) -> AgentResult[T]:
        """Ask the model, run its tool calls concurrently, and ask again until it answers.

        An error in a tool does not end the run: the model receives the class and text of an
        exception, or a message about an unknown tool, invalid arguments or a timeout. At a
        timeout, a blocking tool is abandoned and an async tool is cancelled. In `run`, async tools
        run on an event loop that lasts for one round of tool calls; prefer `arun` for tools that
        keep connections open. Counts as one task.

        Args:
            prompt: text, or a list of messages.
            tools: functions, or `ToolSpec` objects with `fn`.
            response_model: the final answer is validated into `AgentResult.parsed`.
            max_steps: most requests to the model (default 10).
            deadline: seconds for the whole run (default: none; the manager's deadline still
                applies to each request).
            max_cost: USD; once it is reached, the model is not asked again (default: no limit).
                Every model that may answer needs ``cost_per_1k_tokens`` in its metadata, or
                ``cost_per_1k_input_tokens`` and ``cost_per_1k_output_tokens``.
            max_tokens: input and output tokens of the whole run, likewise (default: no limit).
                It is not the model's own limit.
            tool_timeout: seconds for each tool call (default 30).
            max_tool_output: characters of a tool's result that the model receives (default
                50,000).
            memory: the conversation so far; the run is added to it after the final answer
                (default: ``config["memory"]``, if present).
            params: further arguments of `LLMManager.complete`, such as `model`, and the model's
                own options.

        Raises:
            AgentStateError: the agent is not running.
            ConfigurationError: a tool or limit cannot work, or the agent has no manager.
            StepLimitError: no answer within `max_steps` requests.
            AgentError: `max_cost` or `max_tokens` was reached before an answer.
            DeadlineExceededError: the deadline passed.
            LLMError: no model answered; `.ledger` lists every attempt.
        """
        self._lifecycle.require_running("run")
        run = self._new_run(
            prompt,
            tools=tools,
            limits=RunLimits(
                max_steps=max_steps,
                deadline=deadline,
                max_cost=max_cost,
                max_tokens=max_tokens,
                tool_timeout=tool_timeout,
                max_tool_output=max_tool_output,
            ),
            memory=memory,
            response_model=response_model,
            params=params,
        )
        result: AgentResult[Any] = self._execute(run.run, (), {})
        return result

    async def arun(
        self,
        prompt: Prompt,
        tools: Sequence[Any] | None = None,
        response_model: ResponseModel[T] | None = None,
        *,
        max_steps: int = 10,
        deadline: float | None = None,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        tool_timeout: float = 30.0,
        max_tool_output: int = 50_000,
        memory: Memory | None = None,
        **params: Any,
    ) -> AgentResult[T]:
        """Like `run`, for asyncio: async tools are tasks of this loop, others run on threads."""
        self._lifecycle.require_running("arun")
        run = self._new_run(
            prompt,
            tools=tools,
            limits=RunLimits(
                max_steps=max_steps,
                deadline=deadline,
                max_cost=max_cost,
                max_tokens=max_tokens,
                tool_timeout=tool_timeout,
                max_tool_output=max_tool_output,
            ),
            memory=memory,
            response_model=response_model,
            params=params,
        )
        result: AgentResult[Any] = await self._aexecute(run.arun, (), {})
        return result

    def get_performance_metrics(self) -> dict[str, Any]:
        """Statistics of this agent's tasks since it was created.

        Keys: total_tasks (tasks that ended), successful_tasks, failed_tasks, total_execution_time
        and average_execution_time (seconds, over total_tasks), success_rate (successes as a
        fraction of successes and failures, 1.0 before any) and error_count (errors raised,
        including those that `error_log` no longer holds). A cancelled or interrupted task is
        neither a success nor a failure.
        """
        return self._performance.metrics()

    @property
    def error_log(self) -> tuple[TaskFailure, ...]:
        """The last 100 failures, oldest first."""
        return self._performance.failures

    def model_health(self) -> dict[str, Health]:
        """The recent health of each of the manager's models, by name.

        Raises:
            ConfigurationError: the agent has no manager.
        """
        manager = self._require_manager()
        healths: dict[str, Health] = {}
        for name in manager.list_models():
            try:
                healths[name] = manager.health(name)
            except UnknownModelError:  # unregistered by another thread in between
                continue
        return healths

    def __repr__(self) -> str:
        return f"<Agent {self.name} ({self.role}): {self.status}>"

    def _admit(self, task: Any, method: str) -> None:
        require_callable(task)
        self._lifecycle.require_running(method)

    def _new_run(
        self,
        prompt: Prompt,
        *,
        tools: Sequence[Any] | None,
        limits: RunLimits,
        memory: Memory | None,
        response_model: ResponseModel[Any] | None,
        params: Mapping[str, Any],
    ) -> Run:
        toolbox = Toolbox(
            tools,
            agent=self.name,
            executions=self._executions,
            clock=self._clock,
            timeout=limits.tool_timeout,
            max_output=limits.max_tool_output,
        )
        return Run(
            self._require_manager(),
            prompt,
            toolbox,
            limits=limits,
            clock=self._clock,
            memory=self.config.get("memory") if memory is None else memory,
            response_model=response_model,
            params=params,
        )

    def _require_manager(self) -> LLMManager:
        manager = self.llm_manager
        if manager is None:
            raise ConfigurationError(
                f"agent {self.name!r} has no manager",
                hint='create it with config={"llm_manager": manager}',
            )
        return manager

    def _execute(
        self, task: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        with _Recorded(task, self._clock, self._performance, self._invocations):
            return call(task, args, kwargs)

    async def _aexecute(
        self, task: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        with _Recorded(task, self._clock, self._performance, self._invocations):
            return await acall(task, args, kwargs)


class _Recorded:
    """One task: its span is current inside the block, and the end of the task is recorded once."""

    def __init__(
        self,
        task: Callable[..., Any],
        clock: Now,
        performance: Performance,
        invocations: Invocations,
    ) -> None:
        self._task = task
        self._clock = clock
        self._performance = performance
        self._invocations = invocations

    def __enter__(self) -> None:
        self._span = self._invocations.start()
        self._started = self._clock()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        seconds = self._clock() - self._started
        self._performance.record(name_of(self._task), seconds, error)
        self._invocations.end(self._span, seconds, error)
