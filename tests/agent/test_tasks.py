"""Any callable is a task, in sync and async code; results and errors arrive unchanged."""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from agentkit.agent.agent import Agent
from agentkit.errors import ConfigurationError
from tests.agent.fakes import running_agent

WHO: ContextVar[str] = ContextVar("WHO", default="default")


def join(first: str, *, last: str = "!") -> str:
    return first + last


async def ajoin(first: str, *, last: str = "!") -> str:
    await asyncio.sleep(0)
    return first + last


class Joiner:
    def __call__(self, first: str, *, last: str = "!") -> str:
        return first + last

    def method(self, first: str, *, last: str = "!") -> str:
        return first + last


class AsyncJoiner:
    async def __call__(self, first: str, *, last: str = "!") -> str:
        return await ajoin(first, last=last)

    async def method(self, first: str, *, last: str = "!") -> str:
        return await ajoin(first, last=last)


@functools.wraps(ajoin)
def looks_sync(first: str, *, last: str = "!") -> Any:
    return ajoin(first, last=last)


class Later:
    """An awaitable that is not a coroutine."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __await__(self) -> Any:
        return ajoin(self._text, last="?").__await__()


CALLABLES: dict[str, Callable[..., Any]] = {
    "function": join,
    "partial": functools.partial(join),
    "callable object": Joiner(),
    "partial of a callable object": functools.partial(Joiner()),
    "bound method": Joiner().method,
    "lambda": lambda first, last="!": first + last,
    "coroutine function": ajoin,
    "partial of a coroutine function": functools.partial(ajoin),
    "partial of a partial": functools.partial(functools.partial(ajoin)),
    "async callable object": AsyncJoiner(),
    "async bound method": AsyncJoiner().method,
    "lambda that returns a coroutine": lambda first, last="!": ajoin(first, last=last),
    "function that returns a coroutine": looks_sync,
    "lambda that returns an awaitable": lambda first, last: Later(first),
}


def execute_inside_a_loop(agent: Agent, task: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    async def main() -> Any:
        return agent.execute_task(task, *args, **kwargs)

    return asyncio.run(main())


def aexecute(agent: Agent, task: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return asyncio.run(agent.aexecute_task(task, *args, **kwargs))


WAYS: dict[str, Callable[..., Any]] = {
    "sync": lambda agent, *args, **kwargs: agent.execute_task(*args, **kwargs),
    "sync inside a running loop": execute_inside_a_loop,
    "async": aexecute,
}
each_way = pytest.mark.parametrize("execute", WAYS.values(), ids=WAYS)


@pytest.mark.promise("S3-33")
@each_way
@pytest.mark.parametrize("task", CALLABLES.values(), ids=CALLABLES)
def test_a_task_gives_its_result(execute: Callable[..., Any], task: Callable[..., Any]) -> None:
    agent = running_agent()
    assert execute(agent, task, "yes", last="?") == "yes?"
    metrics = agent.get_performance_metrics()
    assert (metrics["successful_tasks"], metrics["failed_tasks"]) == (1, 0)


@each_way
def test_every_exception_became_none_there(execute: Callable[..., Any]) -> None:
    """The very exception is raised, and recorded."""
    agent = running_agent()
    error = KeyError("gone")

    def fail() -> None:
        raise error

    async def afail() -> None:
        await asyncio.sleep(0)
        raise error

    for task in (fail, afail):
        with pytest.raises(KeyError) as caught:
            execute(agent, task)
        assert caught.value is error
    assert [failure.exception_type for failure in agent.error_log] == ["KeyError", "KeyError"]
    assert agent.get_performance_metrics()["failed_tasks"] == 2


@each_way
def test_a_partial_was_counted_as_success_and_failure(execute: Callable[..., Any]) -> None:
    """A callable without a name is one task with one end, and its result arrives."""
    agent = running_agent()
    assert execute(agent, functools.partial(join, "yes")) == "yes!"
    assert execute(agent, Joiner(), "no") == "no!"
    metrics = agent.get_performance_metrics()
    assert metrics["total_tasks"] == 2
    assert metrics["successful_tasks"] == 2
    assert metrics["failed_tasks"] == metrics["error_count"] == 0
    assert agent.error_log == ()


@each_way
def test_a_task_that_returns_none_is_a_success(execute: Callable[..., Any]) -> None:
    agent = running_agent()
    assert execute(agent, lambda: None) is None
    assert agent.get_performance_metrics()["successful_tasks"] == 1


@each_way
def test_a_task_may_have_arguments_called_task_and_self(execute: Callable[..., Any]) -> None:
    def echo(**kwargs: str) -> dict[str, str]:
        return kwargs

    if execute is WAYS["sync"]:
        assert running_agent().execute_task(echo, task="a") == {"task": "a"}
    else:
        assert asyncio.run(running_agent().aexecute_task(echo, task="a")) == {"task": "a"}


@each_way
@pytest.mark.parametrize("task", [None, "text", 3])
def test_what_cannot_be_called_is_refused(execute: Callable[..., Any], task: Any) -> None:
    agent = running_agent()
    with pytest.raises(ConfigurationError, match=type(task).__name__) as caught:
        execute(agent, task)
    assert caught.value.hint
    assert agent.get_performance_metrics()["total_tasks"] == 0


@each_way
def test_a_coroutine_instead_of_its_function_is_refused(execute: Callable[..., Any]) -> None:
    """It is closed, so that no warning about it follows."""
    with pytest.raises(ConfigurationError, match="coroutine") as caught:
        execute(running_agent(), ajoin("x"))
    assert "without calling it" in str(caught.value)


@each_way
def test_context_variables_reach_the_task(execute: Callable[..., Any]) -> None:
    async def awho() -> str:
        return WHO.get()

    token = WHO.set("me")
    try:
        assert execute(running_agent(), WHO.get) == "me"
        assert execute(running_agent(), awho) == "me"
    finally:
        WHO.reset(token)


def test_a_blocking_task_does_not_block_the_loop() -> None:
    """It ends only after something else has run on the loop meanwhile."""
    agent = running_agent()
    release = threading.Event()

    async def main() -> tuple[bool, None]:
        async def other() -> None:
            release.set()

        return await asyncio.gather(agent.aexecute_task(release.wait, 10), other())

    assert asyncio.run(main())[0] is True


def test_blocking_tasks_leave_the_default_executor_alone() -> None:
    agent = running_agent()

    async def main() -> tuple[bool, bool]:
        thread = await agent.aexecute_task(threading.current_thread)
        loop: Any = asyncio.get_running_loop()
        return thread.daemon, loop._default_executor is None

    assert asyncio.run(main()) == (True, True)


def test_a_coroutine_function_is_awaited_in_the_callers_own_task() -> None:
    agent = running_agent()

    async def current() -> Any:
        return asyncio.current_task()

    async def main() -> bool:
        return await agent.aexecute_task(current) is asyncio.current_task()

    assert asyncio.run(main())


def test_a_sync_execution_leaves_no_loop_behind() -> None:
    agent = running_agent()

    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    first, second = agent.execute_task(loop), execute_inside_a_loop(agent, loop)
    assert first.is_closed()
    assert second.is_closed()
    assert not [t for t in threading.enumerate() if t.name == "agentkit-task" and not t.daemon]


@pytest.mark.parametrize("error", [TimeoutError("slow"), asyncio.InvalidStateError("odd")])
def test_errors_that_futures_change_arrive_unchanged(error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        aexecute(running_agent(), fail)
    assert caught.value is error


def test_a_stop_iteration_neither_hangs_nor_vanishes() -> None:
    def fail() -> None:
        raise StopIteration("end")

    agent = running_agent()
    with pytest.raises(StopIteration, match="end"):
        agent.execute_task(fail)
    with pytest.raises(RuntimeError, match="StopIteration"):
        aexecute(agent, fail)
    assert agent.get_performance_metrics()["failed_tasks"] == 2


def test_a_cancelled_caller_does_not_wait_for_a_blocking_task() -> None:
    agent = running_agent()
    started, release = threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        release.wait(10)

    async def main() -> None:
        task = asyncio.ensure_future(agent.aexecute_task(block))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not release.is_set()
    release.set()


def test_ctrl_c_inside_a_running_loop_cancels_the_coroutine(ctrl_c_works: None) -> None:
    """Its caller is gone, so it must not keep asking models."""
    agent = running_agent()
    cancelled = threading.Event()
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    async def forever() -> None:
        try:
            signal.pthread_kill(main_thread, signal.SIGINT)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def main() -> None:
        with pytest.raises(KeyboardInterrupt):
            agent.execute_task(forever)

    loop = asyncio.new_event_loop()  # asyncio.run would take the signal for itself
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert cancelled.wait(10)
    metrics = agent.get_performance_metrics()
    assert (metrics["total_tasks"], metrics["failed_tasks"]) == (1, 0)


def test_sync_and_async_tasks_nest() -> None:
    agent = running_agent()

    async def outer() -> str:
        inner: Awaitable[str] = agent.aexecute_task(lambda: agent.execute_task(ajoin, "deep"))
        return await inner

    assert agent.execute_task(outer) == "deep!"
    assert agent.get_performance_metrics()["successful_tasks"] == 3
