"""One run of an agent: performs what its loop decides, in sync and async code.

`Run.events` and `Run.aevents` ask the model and call the tools, through the journal of the run;
`Run.run` and `Run.arun` do the same and drop the events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from agentkit.agent.callables import Background, call
from agentkit.agent.calls import CallTools, PendingCall, ToolResult
from agentkit.agent.cost import require_prices
from agentkit.agent.events import (
    PartialAnswer,
    RunEvent,
    RunFinished,
    ToolCallFinished,
    ToolCallStarted,
)
from agentkit.agent.limits import RunLimits
from agentkit.agent.loop import AskModel, Loop, Summarize
from agentkit.agent.memory import Memory
from agentkit.agent.result import AgentResult
from agentkit.agent.runs.effects import EffectGuard
from agentkit.agent.runs.journal import Codec
from agentkit.agent.runs.records import RESPONSE, RunStart, definition_of, json_options
from agentkit.agent.runs.session import Session
from agentkit.agent.spans import Exchanged
from agentkit.agent.toolbox import Toolbox
from agentkit.engine.stepper import Stepper
from agentkit.errors import ConfigurationError, LLMError
from agentkit.manager.requests import Prompt, request_for
from agentkit.output.schema import schema_of
from agentkit.output.validation import TypeCheck, check_for
from agentkit.types import (
    Message,
    MessageRole,
    Now,
    ReasoningDelta,
    Request,
    Response,
    Restart,
    StreamEvent,
    TextDelta,
)
from agentkit.types.response import ResponseModel

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager


class Run:
    """One run of an agent, ready to be started once."""

    def __init__(
        self,
        manager: LLMManager,
        prompt: Prompt,
        toolbox: Toolbox,
        *,
        agent: str,
        instructions: str,
        limits: RunLimits,
        clock: Now,
        memory: Memory | None,
        response_model: ResponseModel[Any] | None,
        params: Mapping[str, Any],
        session: Session,
    ) -> None:
        self._manager = manager
        self._toolbox = toolbox
        self._loop = Loop(limits, clock=clock, memory=memory, session=session)
        self._options = {**params, "tools": toolbox.specs or None, "response_model": response_model}
        if limits.max_cost is not None:
            require_prices(manager.dispatcher, params.get("model"))
        asking = next((spec.name for spec in toolbox.specs if spec.approve), None)
        if asking is not None and session.source is None:
            raise ConfigurationError(
                f"tool {asking!r} needs approval, and the run could not wait for it",
                hint='pass journal="sqlite:///runs.sqlite", or "memory" for this process',
            )
        self._check: TypeCheck | None = None
        if response_model is not None:
            self._check, _ = check_for(response_model, Request(tools=toolbox.specs))
        self._response_codec = Codec(RESPONSE.encode, self._decode_response)
        self._session = session
        self._start = RunStart(
            agent=agent,
            task=request_for(prompt, {}).conversation,
            history=() if memory is None else memory.messages,
            definition=definition_of(
                instructions,
                toolbox.specs,
                None if response_model is None else schema_of(response_model).schema,
            ),
            options=json_options({**params, **asdict(limits)}) if session.source else {},
        )

    def exchanged(self, result: AgentResult[Any] | None) -> Exchanged:
        """What the run was asked, and the last answer of `result`."""
        start = self._start
        instructions = start.definition.instructions
        system = (Message(MessageRole.SYSTEM, instructions),) if instructions else ()
        messages = (*system, *start.history, *start.task)
        last = None if result is None else result.steps[-1].response
        return Exchanged(Request(messages=messages, tools=self._toolbox.specs), last)

    def run(self) -> AgentResult[Any]:
        """Ask the model in this thread; tools run on threads of their own."""
        events = self.events(streamed=False)
        while True:
            try:
                next(events)
            except StopIteration as end:
                result: AgentResult[Any] = end.value
                return result

    async def arun(self) -> AgentResult[Any]:
        """Await the model; async tools are tasks of this loop, blocking ones run on threads."""
        async with aclosing(self.aevents(streamed=False)) as events:
            async for event in events:
                if isinstance(event, RunFinished):
                    return event.result
        raise AssertionError("a run ends with RunFinished or raises")

    def events(self, *, streamed: bool) -> Generator[RunEvent, None, AgentResult[Any]]:
        """Yield what happens; with `streamed` also what the model answers, as it arrives."""
        with _Closing(self._session, self._manager) as closing:
            stepper = Stepper(self._loop.run(self._session.open(self._start)))
            stepper.advance()
            while not stepper.done:
                effect = stepper.effect
                outcome: Any = None
                try:
                    if isinstance(effect, AskModel):
                        outcome = yield from self._ask(effect, streamed)
                    elif isinstance(effect, CallTools):
                        outcome = yield from self._call_tools(effect, streamed)
                    elif isinstance(effect, Summarize):
                        outcome = self._session.recorder.step(
                            "0.summary", partial(self._summarize, effect), RESPONSE
                        )
                    else:
                        yield effect
                except GeneratorExit:
                    stepper.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - the loop decides what it means
                    self._fail(stepper, error)
                else:
                    stepper.advance(outcome)
            closing.result = stepper.result
        yield RunFinished(stepper.result)
        return stepper.result

    async def aevents(self, *, streamed: bool) -> AsyncGenerator[RunEvent, None]:
        """Like `events`, for asyncio; the result is in the last event."""
        with _Closing(self._session, self._manager) as closing:
            stepper = Stepper(self._loop.run(await self._session.aopen(self._start)))
            stepper.advance()
            while not stepper.done:
                effect = stepper.effect
                outcome: Any = None
                try:
                    if isinstance(effect, RunEvent):
                        yield effect
                    elif isinstance(effect, Summarize):
                        outcome = await self._session.recorder.astep(
                            "0.summary", partial(self._asummarize, effect), RESPONSE
                        )
                    else:
                        async with aclosing(self._aperform(effect, streamed)) as parts:
                            async for part in parts:
                                if isinstance(part, _Outcome):
                                    outcome = part.value
                                else:
                                    yield part
                except GeneratorExit:
                    stepper.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - the loop decides what it means
                    self._fail(stepper, error)
                else:
                    stepper.advance(outcome)
            closing.result = stepper.result
        yield RunFinished(stepper.result)

    def _fail(self, stepper: Stepper[AgentResult[Any]], error: BaseException) -> None:
        """Continue the loop with the error of its effect, and count what a failed call cost."""
        if isinstance(stepper.effect, AskModel):
            self._session.spend(stepper.effect.step, error)
        stepper.fail(error)

    def _ask(self, action: AskModel, streamed: bool) -> Generator[RunEvent, None, Response[Any]]:
        name, recorder = f"{action.step}.model", self._session.recorder
        if not streamed:
            return recorder.step(name, lambda: self._complete(action), self._response_codec)
        if recorder.must_collect(name):
            collected: list[RunEvent] = []

            def collect() -> Response[Any]:
                stream = self._stream(action)
                try:
                    while True:
                        collected.append(next(stream))
                except StopIteration as end:
                    response: Response[Any] = end.value
                    return response

            response = recorder.step(name, collect, self._response_codec)
            yield from collected
            return response
        response = yield from self._stream(action)
        return recorder.step(name, lambda: response, self._response_codec)

    def _summarize(self, action: Summarize) -> Response[Any]:
        return self._manager.complete(action.messages, model=action.model)

    async def _asummarize(self, action: Summarize) -> Response[Any]:
        return await self._manager.acomplete(action.messages, model=action.model)

    def _complete(self, action: AskModel) -> Response[Any]:
        return self._manager.complete(action.messages, deadline=action.deadline, **self._options)

    def _stream(self, action: AskModel) -> Generator[RunEvent, None, Response[Any]]:
        partials = _Partials(self._check)
        with self._manager.stream(
            action.messages, deadline=action.deadline, **self._options
        ) as stream:
            for event in stream.events():
                yield from partials.shown(event)
            return stream.response

    def _call_tools(
        self, action: CallTools, streamed: bool
    ) -> Generator[RunEvent, None, tuple[ToolResult | PendingCall, ...]]:
        guard = self._guard()
        if not streamed:
            outcomes: tuple[ToolResult | PendingCall, ...]
            outcomes = call(self._toolbox.run, (action, guard, _ignore), {})
            return outcomes
        yield from (ToolCallStarted(each, action.step) for each in action.calls)
        results: SimpleQueue[ToolResult | None] = SimpleQueue()
        running = Background(self._toolbox.run(action, guard, results.put))
        try:
            running.start(done=lambda: results.put(None))
            while (result := results.get()) is not None:
                yield ToolCallFinished(result, action.step)
        except BaseException:
            running.cancel()
            raise
        outcomes = running.result()
        return outcomes

    async def _aperform(
        self, action: AskModel | CallTools, streamed: bool
    ) -> AsyncGenerator[RunEvent | _Outcome, None]:
        if isinstance(action, CallTools):
            parts = self._acall_tools(action, streamed)
        else:
            parts = self._aask(action, streamed)
        async with aclosing(parts):
            async for part in parts:
                yield part

    async def _aask(
        self, action: AskModel, streamed: bool
    ) -> AsyncGenerator[RunEvent | _Outcome, None]:
        name, recorder = f"{action.step}.model", self._session.recorder
        collected: list[RunEvent] = []

        async def complete() -> Response[Any]:
            return await self._manager.acomplete(
                action.messages, deadline=action.deadline, **self._options
            )

        async def collect() -> Response[Any]:
            async with aclosing(self._astream(action)) as parts:
                async for part in parts:
                    if isinstance(part, _Outcome):
                        return _response(part)
                    collected.append(part)
            raise AssertionError("a stream ends with its response or raises")

        if not streamed or recorder.must_collect(name):
            do = collect if streamed else complete
            response = await recorder.astep(name, do, self._response_codec)
            for event in collected:
                yield event
            yield _Outcome(response)
            return
        async with aclosing(self._astream(action)) as parts:
            async for part in parts:
                if not isinstance(part, _Outcome):
                    yield part
                    continue
                streamed_response = _response(part)

                async def done() -> Response[Any]:
                    return streamed_response  # noqa: B023 - awaited before it changes

                yield _Outcome(await recorder.astep(name, done, self._response_codec))

    async def _astream(self, action: AskModel) -> AsyncGenerator[RunEvent | _Outcome, None]:
        partials = _Partials(self._check)
        async with self._manager.astream(
            action.messages, deadline=action.deadline, **self._options
        ) as stream:
            async for event in stream.events():
                for shown in partials.shown(event):
                    yield shown
            yield _Outcome(stream.response)

    async def _acall_tools(
        self, action: CallTools, streamed: bool
    ) -> AsyncGenerator[RunEvent | _Outcome, None]:
        guard = self._guard()
        if not streamed:
            yield _Outcome(await self._toolbox.run(action, guard, _ignore))
            return
        for each in action.calls:
            yield ToolCallStarted(each, action.step)
        results: asyncio.Queue[ToolResult | None] = asyncio.Queue()
        running = asyncio.create_task(self._toolbox.run(action, guard, results.put_nowait))
        running.add_done_callback(lambda _: results.put_nowait(None))
        try:
            while (result := await results.get()) is not None:
                yield ToolCallFinished(result, action.step)
        except BaseException:
            running.cancel()
            await asyncio.wait([running])
            raise
        yield _Outcome(running.result())

    def _guard(self) -> EffectGuard:
        session = self._session
        return EffectGuard(session.recorder, session.run_id, session.decisions, self._toolbox.text)

    def _decode_response(self, data: Any) -> Response[Any]:
        response = RESPONSE.decode(data)
        return response if self._check is None else self._check.accept(response)


class _Outcome(NamedTuple):
    """The last item of an async generator: what the loop receives."""

    value: Any


def _response(outcome: _Outcome) -> Response[Any]:
    response: Response[Any] = outcome.value
    return response


class _Closing:
    """Releases the run at the end of the block, with the result or the error that ended it.

    A run that ends because its manager was closed has not failed: another process takes it over.
    """

    def __init__(self, session: Session, manager: LLMManager) -> None:
        self.result: AgentResult[Any] | None = None
        self._session = session
        self._manager = manager

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.result is not None:
            pending = [each.call.id for each in self.result.pending]
            self._session.close(self.result.status, pending=pending)
        else:
            ended = error is None or isinstance(error, Exception)
            failed = ended and not self._manager.closed
            self._session.close("failed" if failed else "abandoned", _note(error))


class _Partials:
    """The events of a stream that a run shows, with partial instances if there is a type."""

    def __init__(self, check: TypeCheck | None) -> None:
        self._builder = None if check is None else check.partial_builder()

    def shown(self, event: StreamEvent) -> Generator[RunEvent, None, None]:
        if isinstance(event, TextDelta | ReasoningDelta | Restart):
            yield event
            if self._builder is not None:
                yield from (PartialAnswer(each) for each in self._builder.add(event))


def _note(error: BaseException | None) -> str:
    if isinstance(error, LLMError):
        return f"{type(error).__name__}: {error.message}"
    return "interrupted" if error is None else type(error).__name__


def _ignore(_: ToolResult) -> None:
    pass
