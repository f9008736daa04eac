"""The agent: runs tasks while its life cycle allows it, and keeps their statistics."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, cast, overload

from agentkit.agent.callables import acall, call, require_callable
from agentkit.agent.lifecycle import Lifecycle
from agentkit.agent.limits import RunLimits, split_options
from agentkit.agent.memory import Memory
from agentkit.agent.result import AgentResult
from agentkit.agent.run import Run
from agentkit.agent.runs.effects import Decisions
from agentkit.agent.runs.journal import Journal
from agentkit.agent.runs.session import (
    Session,
    journal_of,
    recorded_start,
    session_of,
    store_of,
)
from agentkit.agent.runs.store import RunStore
from agentkit.agent.spans import Exchanged, Executions, Invocations, telemetry_of
from agentkit.agent.statistics import Performance, TaskFailure
from agentkit.agent.stream import AsyncRunStream, RunStream
from agentkit.agent.tasks import Describe, RecordedTask, StreamedTask
from agentkit.agent.toolbox import Toolbox
from agentkit.agent.validation import NO_ROLE, capabilities_of, config_of, instructions_of, text
from agentkit.engine.drivers.tracebacks import shorten
from agentkit.errors import ConfigurationError, LLMError, RunConflictError, UnknownModelError
from agentkit.manager.requests import Prompt
from agentkit.output.tools import tool_specs
from agentkit.types import Now, Request, Response
from agentkit.types.response import ResponseModel, T

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from agentkit.manager.manager import LLMManager
    from agentkit.telemetry.recorder import Health

P = ParamSpec("P")


class Agent:
    """Asks a model, runs its tool calls, and asks again until it answers: see `run`.

    ``Agent(llm, instructions="…", tools=[…])`` is ready for use. ``Agent("name", "role")`` is
    ``initialized``, and accepts tasks after `start`. `start`, `pause`, `resume` and `stop` change
    the state of the agent, but do not affect running tasks. `execute_task` also runs any callable
    as a task. Safe to use from many threads and event loops at once.

    Args:
        name: the name of the agent in messages, journals and telemetry; or the `LLMManager`, and
            the name is ``"agent"``.
        role: what the agent is for, in words.
        capabilities: what it can do, one word or phrase each.
        config: settings, kept as a read-only copy. The agent reads ``llm_manager``, an
            `LLMManager`, and ``memory``, a `Memory` for `run`; it rejects misspelt versions of
            these two.
        llm: the `LLMManager`, for an agent with a name. The agent is then ``running``.
        instructions: the system prompt of each run, after the `role`. Without instructions, the
            role is not sent.
        tools: the tools of each run, unless `run` is given others.
        memory: the same as ``config["memory"]``.
        journal: where runs are recorded, unless `run` is given another journal (default: nowhere).
        clock: a monotonic clock in seconds, which measures the tasks.
        tracer_provider: OpenTelemetry provider of spans (default: the global one).
        meter_provider: OpenTelemetry provider of metrics (default: the global one).

    Attributes:
        id: a random UUID, as a str.
        name, role: as given. capabilities: as a tuple. config: as a read-only mapping.
        instructions: the system prompt of each run, or "".

    Raises:
        ConfigurationError: a value cannot work; the message says which, and the remedy.
    """

    @overload
    def __init__(
        self,
        name: str,
        role: str = ...,
        capabilities: Iterable[str] = (),
        config: Mapping[str, Any] | None = None,
        *,
        llm: LLMManager | None = None,
        instructions: str = "",
        tools: Sequence[Any] | None = None,
        memory: Memory | None = None,
        journal: str | RunStore | Journal | None = None,
        clock: Now = time.monotonic,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: LLMManager,
        /,
        *,
        role: str = ...,
        instructions: str = "",
        tools: Sequence[Any] | None = None,
        memory: Memory | None = None,
        journal: str | RunStore | Journal | None = None,
        clock: Now = time.monotonic,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None: ...
    def __init__(
        self,
        name: str | LLMManager,
        role: str | None = NO_ROLE,
        capabilities: Iterable[str] = (),
        config: Mapping[str, Any] | None = None,
        *,
        llm: LLMManager | None = None,
        instructions: str = "",
        tools: Sequence[Any] | None = None,
        memory: Memory | None = None,
        journal: str | RunStore | Journal | None = None,
        clock: Now = time.monotonic,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        if callable(getattr(name, "complete", None)):
            name, llm = "agent", cast("LLMManager", name)
        self.id = str(uuid.uuid4())
        self.name = text("name", name)
        given_role = role is not NO_ROLE or (llm is None and not instructions)
        self.role = text("role", role) if given_role else ""
        self.capabilities = capabilities_of(capabilities)
        own = {"llm_manager": llm, "memory": memory}
        self.config = config_of(config, {k: v for k, v in own.items() if v is not None})
        self.instructions = instructions_of(self.role, instructions)
        self._tools = tool_specs(tools)
        self._journal = None if journal is None else journal_of(journal)
        self._clock = clock
        self._lifecycle = Lifecycle(self.name)
        if llm is not None:
            self._lifecycle.apply("start")
        self._performance = Performance()
        telemetry = telemetry_of(self.llm_manager)
        self._invocations = Invocations(
            self.name, self.id, tracer_provider, meter_provider, telemetry
        )
        self._executions = Executions(self.name, tracer_provider, meter_provider, telemetry)

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
        """Reject new tasks until `resume`. Raises `AgentStateError` unless running."""
        self._lifecycle.apply("pause")

    @overload
    def resume(self) -> None: ...
    @overload
    def resume(
        self,
        run_id: str,
        *,
        journal: str | RunStore | None = None,
        approve: Iterable[str] = (),
        deny: Mapping[str, str] | Iterable[str] = (),
        edit: Mapping[str, Mapping[str, Any]] | None = None,
        tools: Sequence[Any] | None = None,
        response_model: ResponseModel[T] | None = None,
        memory: Memory | None = None,
        allow_changes: bool = False,
        **options: Any,
    ) -> AgentResult[T]: ...
    def resume(
        self,
        run_id: str | None = None,
        *,
        journal: str | RunStore | None = None,
        approve: Iterable[str] = (),
        deny: Mapping[str, str] | Iterable[str] = (),
        edit: Mapping[str, Mapping[str, Any]] | None = None,
        tools: Sequence[Any] | None = None,
        response_model: ResponseModel[Any] | None = None,
        memory: Memory | None = None,
        allow_changes: bool = False,
        **options: Any,
    ) -> Any:
        """Accept tasks again; or, with a `run_id`, continue a recorded run.

        A run continues after its last recorded step, whether its process ended, it failed, or it
        waits for approval. A finished run returns its result again, without calling a model or a
        tool.

        Args:
            run_id: the id of a run in the journal.
            journal: the journal (default: the agent's).
            approve: the ids of pending tool calls to make.
            deny: the ids of pending tool calls not to make, with the reason for the model.
            edit: the ids of pending tool calls to make with other arguments, and these.
            tools, response_model, memory: as in `run`; code is not recorded.
            allow_changes: whether to continue although the instructions, the tools or the type of
                the answer have changed since the run was started (default False).
            options: limits and further arguments of `run`, in place of the recorded ones.

        Raises:
            AgentStateError: the agent is not paused; or, with a `run_id`, not running.
            ConfigurationError: a call is not waiting for approval, or there is no journal.
            RunConflictError: another process works on the run.
            RunChangedError: the run was started with other instructions or tools.
            JournalError: there is no such run, or the journal cannot be used.
        """
        if run_id is None:
            self._lifecycle.apply("resume")
            return None
        self._lifecycle.require_running("resume")
        decisions = Decisions.of(approve, deny, edit or {})
        run = self._recorded_run(
            run_id,
            journal,
            tools=tools,
            response_model=response_model,
            memory=memory,
            decisions=decisions,
            allow_changes=allow_changes,
            options=options,
        )
        return self._execute(run.run, (), {}, run.exchanged)

    @overload
    async def aresume(self) -> None: ...
    @overload
    async def aresume(
        self,
        run_id: str,
        *,
        journal: str | RunStore | None = None,
        approve: Iterable[str] = (),
        deny: Mapping[str, str] | Iterable[str] = (),
        edit: Mapping[str, Mapping[str, Any]] | None = None,
        tools: Sequence[Any] | None = None,
        response_model: ResponseModel[T] | None = None,
        memory: Memory | None = None,
        allow_changes: bool = False,
        **options: Any,
    ) -> AgentResult[T]: ...
    async def aresume(
        self,
        run_id: str | None = None,
        *,
        journal: str | RunStore | None = None,
        approve: Iterable[str] = (),
        deny: Mapping[str, str] | Iterable[str] = (),
        edit: Mapping[str, Mapping[str, Any]] | None = None,
        tools: Sequence[Any] | None = None,
        response_model: ResponseModel[Any] | None = None,
        memory: Memory | None = None,
        allow_changes: bool = False,
        **options: Any,
    ) -> Any:
        """Like `resume`, for asyncio."""
        if run_id is None:
            self._lifecycle.apply("resume")
            return None
        self._lifecycle.require_running("aresume")
        decisions = Decisions.of(approve, deny, edit or {})
        run = await acall(
            self._recorded_run,
            (run_id, journal),
            {
                "tools": tools,
                "response_model": response_model,
                "memory": memory,
                "decisions": decisions,
                "allow_changes": allow_changes,
                "options": options,
            },
        )
        return await self._aexecute(run.arun, (), {}, run.exchanged)

    def resume_all(
        self, journal: str | RunStore | None = None
    ) -> dict[str, AgentResult[Any] | LLMError]:
        """Continue each run of this agent whose process has ended. Returns the outcomes by run id.

        Runs are continued one after the other. A run that another process claims first is left to
        that process. The error of one run does not stop the others.

        Raises:
            ConfigurationError: there is no journal that keeps many runs.
            JournalError: the journal cannot be used.
        """
        store = store_of(self._require_journal(journal))
        outcomes: dict[str, AgentResult[Any] | LLMError] = {}
        for info in store.runs("abandoned"):
            if info.agent != self.name:
                continue
            try:
                outcomes[info.id] = self.resume(info.id, journal=store)
            except RunConflictError:
                continue
            except LLMError as error:
                outcomes[info.id] = error
        return outcomes

    async def aresume_all(
        self, journal: str | RunStore | None = None
    ) -> dict[str, AgentResult[Any] | LLMError]:
        """Like `resume_all`, for asyncio."""
        store = store_of(self._require_journal(journal))
        outcomes: dict[str, AgentResult[Any] | LLMError] = {}
        for info in await acall(store.runs, ("abandoned",), {}):
            if info.agent != self.name:
                continue
            try:
                outcomes[info.id] = await self.aresume(info.id, journal=store)
            except RunConflictError:
                continue
            except LLMError as error:
                outcomes[info.id] = error
        return outcomes

    def stop(self) -> None:
        """Reject new tasks until `start`. Raises `AgentStateError` if stopped already."""
        self._lifecycle.apply("stop")

    @overload
    def execute_task(
        self, task: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    def execute_task(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def execute_task(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Return ``task(*args, **kwargs)``. An exception is recorded and propagates.

        `task` may be any callable, and is called in this thread. If it returns an awaitable, this
        runs to its end on an event loop of its own, so that it cannot await objects of another
        loop. If an event loop is already running in this thread, it is blocked meanwhile; use
        `aexecute_task` there.

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

        An async callable is awaited in this task. A sync callable is called on a daemon thread of
        its own, with a copy of the context variables, so that it never blocks the event loop. If
        this coroutine is cancelled, the thread finishes on its own, and its result is dropped. A
        `StopIteration` becomes a `RuntimeError`, as in every coroutine.
        """
        self._admit(task, "aexecute_task")
        return await self._aexecute(task, args, kwargs)

    def ask(self, prompt: str, **kwargs: Any) -> str:
        """Return the manager's answer to `prompt`, as `LLMManager.generate` with `kwargs`.

        It counts as a task of its own, even inside another task.

        Raises:
            AgentStateError: the agent is not running.
            ConfigurationError: the agent has no manager.
            LLMError: no model answered; `.ledger` lists every attempt.
        """
        generate = self._require_manager().generate
        self._lifecycle.require_running("ask")
        answer: str = self._execute(generate, (prompt,), kwargs, _asked(prompt))
        return answer

    async def aask(self, prompt: str, **kwargs: Any) -> str:
        """Like `ask`, for asyncio."""
        generate = self._require_manager().agenerate
        self._lifecycle.require_running("aask")
        answer: str = await self._aexecute(generate, (prompt,), kwargs, _asked(prompt))
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
        run_id: str | None = None,
        journal: str | RunStore | Journal | None = None,
        allow_changes: bool = False,
        **params: Any,
    ) -> AgentResult[T]:
        """Ask the model, run its tool calls concurrently, and ask again until it answers.

        An error in a tool does not end the run. The model receives the class and text of the
        exception, or a message about an unknown tool, invalid arguments or a timeout. At a timeout,
        a blocking tool is abandoned and an async tool is cancelled. In `run`, async tools run on an
        event loop that lasts for one round of tool calls; use `arun` for tools that keep
        connections open. A run counts as one task.

        Args:
            prompt: text, or a list of messages.
            tools: functions, or `ToolSpec` objects with `fn`.
            response_model: the final answer is validated into `AgentResult.parsed`.
            max_steps: the most requests to the model (default 10).
            deadline: time limit of the run in seconds (default: none; the manager's deadline still
                applies to each request).
            max_cost: US dollars after which the model is not called again (default: no limit).
                Every model of the route needs a price.
            max_tokens: input and output tokens of the run after which the model is not called again
                (default: no limit). It is not the model's own limit for one answer.
            tool_timeout: seconds for each tool call (default 30).
            max_tool_output: characters of a tool's result that the model receives (default
                50,000).
            memory: the conversation so far; the run is added to it after the final answer
                (default: ``config["memory"]``, if present).
            run_id: the id of the run in the journal (default: a random one). If the journal has
                this run, it continues after its last recorded step: no recorded request or tool
                call is repeated. `max_cost`, `max_tokens` and `deadline` include what was used
                before, but not the time during which no process worked on the run.
            journal: where the run is recorded: ``"sqlite:///runs.sqlite"``, ``"postgresql://…"``,
                ``"memory"``, a `RunStore`, or your own `Journal` (default: the agent's).
            allow_changes: whether to continue a recorded run although its instructions, tools or
                type of answer have changed (default False).
            params: further arguments of `LLMManager.complete`, such as `model`, and the model's
                own options.

        Raises:
            AgentStateError: the agent is not running.
            ConfigurationError: a tool or limit cannot work, or the agent has no manager.
            JournalError: the run cannot be recorded; see also `RunConflictError` (another process
                works on it) and `RunChangedError`.
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
            session=self._session(run_id, journal, allow_changes),
        )
        result: AgentResult[Any] = self._execute(run.run, (), {}, run.exchanged)
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
        run_id: str | None = None,
        journal: str | RunStore | Journal | None = None,
        allow_changes: bool = False,
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
            session=self._session(run_id, journal, allow_changes),
        )
        result: AgentResult[Any] = await self._aexecute(run.arun, (), {}, run.exchanged)
        return result

    def stream(
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
        run_id: str | None = None,
        journal: str | RunStore | Journal | None = None,
        allow_changes: bool = False,
        **params: Any,
    ) -> RunStream[T]:
        """Like `run`, but returns a stream of events. The run starts when you begin to read.

        The events are `TextDelta` and `ReasoningDelta` as the model answers, `ToolCallStarted` and
        `ToolCallFinished`, `StepFinished`, and at the end `RunFinished` with the result. With a
        `response_model`, each `PartialAnswer` is an instance with the fields that have arrived so
        far. If the complete answer does not match, the model is not asked again, and
        `StructuredOutputError` is raised. Recorded steps appear without their deltas.
        """
        self._lifecycle.require_running("stream")
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
            session=self._session(run_id, journal, allow_changes),
        )
        return RunStream(run.events(streamed=True), self._streamed_task("Run.stream", run))

    def astream(
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
        run_id: str | None = None,
        journal: str | RunStore | Journal | None = None,
        allow_changes: bool = False,
        **params: Any,
    ) -> AsyncRunStream[T]:
        """Like `stream`, for ``async for`` and ``async with``. It is not a coroutine itself."""
        self._lifecycle.require_running("astream")
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
            session=self._session(run_id, journal, allow_changes),
        )
        return AsyncRunStream(run.aevents(streamed=True), self._streamed_task("Run.astream", run))

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
        session: Session,
    ) -> Run:
        toolbox = Toolbox(
            self._tools if tools is None else tools,
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
            agent=self.name,
            instructions=self.instructions,
            limits=limits,
            clock=self._clock,
            memory=self.config.get("memory") if memory is None else memory,
            response_model=response_model,
            params=params,
            session=session,
        )

    def _recorded_run(
        self,
        run_id: str,
        journal: str | RunStore | None,
        *,
        tools: Sequence[Any] | None,
        response_model: ResponseModel[Any] | None,
        memory: Memory | None,
        decisions: Decisions,
        allow_changes: bool,
        options: Mapping[str, Any],
    ) -> Run:
        store = store_of(self._require_journal(journal))
        start = recorded_start(store, run_id)
        limits, params = split_options({**start.options, **options})
        return self._new_run(
            start.task,
            tools=tools,
            limits=limits,
            memory=memory,
            response_model=response_model,
            params=params,
            session=Session(run_id, store, decisions, allow_changes),
        )

    def _session(
        self, run_id: str | None, journal: str | RunStore | Journal | None, allow_changes: bool
    ) -> Session:
        return session_of(
            run_id, self._journal if journal is None else journal, allow_changes=allow_changes
        )

    def _require_journal(self, journal: str | RunStore | None) -> str | RunStore | Journal:
        found = self._journal if journal is None else journal
        if found is None:
            raise ConfigurationError(
                f"agent {self.name!r} has no journal",
                hint='pass journal="sqlite:///runs.sqlite", or create the agent with it',
            )
        return found

    def _streamed_task(self, name: str, run: Run) -> StreamedTask:
        return StreamedTask(name, self._clock, self._performance, self._invocations, run.exchanged)

    def _require_manager(self) -> LLMManager:
        manager = self.llm_manager
        if manager is None:
            raise ConfigurationError(
                f"agent {self.name!r} has no manager",
                hint='create it with config={"llm_manager": manager}',
            )
        return manager

    def _recorded(self, task: Callable[..., Any], describe: Describe | None) -> RecordedTask:
        return RecordedTask(task, self._clock, self._performance, self._invocations, describe)

    def _execute(
        self,
        task: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        describe: Describe | None = None,
    ) -> Any:
        try:
            with self._recorded(task, describe) as recorded:
                recorded.result = call(task, args, kwargs)
            return recorded.result
        except LLMError as error:
            shorten(error)
            raise

    async def _aexecute(
        self,
        task: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        describe: Describe | None = None,
    ) -> Any:
        try:
            with self._recorded(task, describe) as recorded:
                recorded.result = await acall(task, args, kwargs)
            return recorded.result
        except LLMError as error:
            shorten(error)
            raise


def _asked(prompt: str) -> Describe:
    """What `Agent.ask` was asked and answered."""

    def describe(answer: Any) -> Exchanged:
        response = Response(answer) if isinstance(answer, str) else None
        return Exchanged(Request(prompt=prompt), response)

    return describe
