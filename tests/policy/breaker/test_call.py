"""A breaker used alone: `call` and `acall` keep results and errors as they are."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import pytest

from agentkit.errors import CircuitOpenError, ConfigurationError
from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker
from tests.policy.breaker.breakers import TurnedClock

Caller = Callable[..., Any]


def called(breaker: CircuitBreaker, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return breaker.call(func, *args, **kwargs)


def acalled(breaker: CircuitBreaker, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    async def twin(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return func(*args, **kwargs)

    def step(coroutine: Any) -> Any:  # a loop would treat KeyboardInterrupt in its own way
        while True:
            try:
                coroutine.send(None)
            except StopIteration as stop:
                return stop.value

    return step(breaker.acall(twin, *args, **kwargs))


@pytest.fixture(params=[called, acalled])
def caller(request: pytest.FixtureRequest) -> Caller:
    caller: Caller = request.param
    return caller


def make(clock: TurnedClock | None = None, **kwargs: Any) -> CircuitBreaker:
    return CircuitBreaker(3, 60, name="weather", clock=clock or TurnedClock(), **kwargs)


def raiser(error: BaseException) -> Callable[[], NoReturn]:
    def fails() -> NoReturn:
        raise error

    return fails


def attempt(caller: Caller, breaker: CircuitBreaker, error: BaseException) -> None:
    with pytest.raises(type(error)):
        caller(breaker, raiser(error))


@pytest.mark.promise("S3-15")
def test_arguments_and_result_pass_through(caller: Caller) -> None:
    def func(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    assert caller(make(), func, 1, 2, x=3) == ((1, 2), {"x": 3})
    assert make().call(func, 1, func=3, self=4) == ((1,), {"func": 3, "self": 4})


@pytest.mark.promise("S3-15")
@pytest.mark.parametrize("threshold_reached", [False, True])
def test_the_error_is_the_functions_own_with_its_traceback_and_context(
    caller: Caller, threshold_reached: bool
) -> None:
    breaker = make()
    if threshold_reached:
        attempt(caller, breaker, OSError())
        attempt(caller, breaker, OSError())
    error, context = KeyError("mine"), ValueError("earlier")
    error.__context__ = context
    with pytest.raises(KeyError) as caught:
        caller(breaker, raiser(error))
    assert breaker.state == ("open" if threshold_reached else "closed")
    assert caught.value is error
    assert error.__context__ is context
    assert error.__cause__ is None
    frames = traceback.extract_tb(error.__traceback__)
    assert frames[-1].name == "fails"
    assert not [frame for frame in frames if "pybreaker" in frame.filename]


@pytest.mark.promise("S3-16")
def test_an_open_circuit_calls_nothing_and_says_for_how_long(caller: Caller) -> None:
    clock = TurnedClock()
    breaker = make(clock)
    for _ in range(3):
        attempt(caller, breaker, RuntimeError("down"))
    clock.now = 17.5
    calls: list[int] = []
    with pytest.raises(CircuitOpenError) as caught:
        caller(breaker, calls.append, 1)
    assert calls == []
    assert caught.value.retry_after == 42.5
    assert "'weather' is open" in caught.value.message
    assert "42.5 s" in caught.value.message


def test_a_half_open_circuit_refuses_with_the_time_left_of_the_lease() -> None:
    clock = TurnedClock()
    breaker = make(clock, probe_lease=8.0)
    for _ in range(3):
        attempt(called, breaker, RuntimeError("down"))
    clock.now = 60.0

    def probe() -> None:
        with pytest.raises(CircuitOpenError, match="'weather' waits for its probe") as caught:
            breaker.call(print)
        assert caught.value.retry_after == 8.0

    breaker.call(probe)
    assert breaker.state == "closed"


def test_a_good_probe_closes(caller: Caller) -> None:
    clock = TurnedClock()
    breaker = make(clock)
    for _ in range(3):
        attempt(caller, breaker, RuntimeError("down"))
    clock.now = 60.0
    assert caller(breaker, lambda: "back") == "back"
    assert breaker.state == "closed"


@pytest.mark.parametrize("error", [ValueError("x"), UnicodeError("a subclass")])
@pytest.mark.parametrize("ignore", [ValueError, (ValueError,), (KeyError, ValueError)])
def test_ignored_errors_pass_and_move_nothing(caller: Caller, ignore: Any, error: Any) -> None:
    breaker = make(ignore=ignore)
    attempt(caller, breaker, RuntimeError("counts"))
    for _ in range(10):
        attempt(caller, breaker, error)
    assert breaker.statistics().consecutive_failures == 1
    assert breaker.statistics().calls == 1


def test_an_ignored_error_frees_the_probe(caller: Caller) -> None:
    clock = TurnedClock()
    breaker = make(clock, ignore=ValueError)
    for _ in range(3):
        attempt(caller, breaker, RuntimeError("down"))
    clock.now = 60.0
    attempt(caller, breaker, ValueError("says nothing"))
    assert breaker.state == "half-open"
    assert breaker.would_admit()


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), asyncio.CancelledError()]
)
def test_an_interrupt_does_not_count_and_frees_the_probe(
    caller: Caller, error: BaseException
) -> None:
    clock = TurnedClock()
    breaker = make(clock)
    for _ in range(9):
        attempt(caller, breaker, error)
    assert breaker.statistics().consecutive_failures == 0
    for _ in range(3):
        attempt(caller, breaker, RuntimeError("down"))
    clock.now = 60.0
    attempt(caller, breaker, error)
    assert breaker.state == "half-open"
    assert breaker.would_admit()


def test_a_cancelled_task_stays_cancelled_and_counts_for_nothing() -> None:
    async def main() -> None:
        breaker = make()
        started = asyncio.Event()

        async def hang() -> None:
            started.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(breaker.acall(hang))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert breaker.statistics().calls == 0

    asyncio.run(main())


def test_tasks_run_side_by_side() -> None:
    async def main() -> None:
        breaker, together = make(), asyncio.Barrier(50)

        async def meet() -> None:
            await together.wait()

        await asyncio.gather(*(breaker.acall(meet) for _ in range(50)))
        assert breaker.statistics().calls == 50

    asyncio.run(main())


def test_an_async_function_in_call_is_refused_and_does_not_count() -> None:
    breaker = make()

    async def func() -> None: ...

    with pytest.raises(ConfigurationError, match=r"use acall\(\)"):
        breaker.call(func)  # type: ignore[unused-coroutine]
    plain: Callable[[], Awaitable[Any]] = dict  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match=r"use call\(\)"):
        asyncio.run(breaker.acall(plain))
    assert breaker.statistics().calls == 0


def test_the_time_a_call_takes_is_measured_with_the_breakers_clock(caller: Caller) -> None:
    clock = TurnedClock()
    rules = BreakerPolicy(slow_call_duration=2.0, minimum_calls=2)
    breaker = CircuitBreaker(policy=rules, clock=clock)

    def slow() -> None:
        clock.now += 2.5

    caller(breaker, slow)
    assert breaker.statistics().slow_calls == 1
    caller(breaker, slow)
    assert breaker.state == "open"
