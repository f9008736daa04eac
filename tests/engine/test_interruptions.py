"""The garbage collector, signal handlers and Ctrl-C may interrupt any line, also under a lock."""

from __future__ import annotations

import functools
import gc
import itertools
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from agentkit import Budget, CircuitBreaker, LLMManager, RetryPolicy, Stream
from agentkit.engine.drivers.clock import SystemClock
from agentkit.engine.shared_call import SharedCall, SharedCalls
from agentkit.testing import ScriptedModel
from agentkit.types import Response, TextDelta, Usage
from tests.interruptions import Interruption, in_time


class House:
    """A manager with every lock there is, and a model that answers at once."""

    def __init__(self, max_concurrency: int = 50) -> None:
        self._numbers = itertools.count()
        self.budget = Budget(tokens=10**9)
        self.breaker = CircuitBreaker()
        self.llm = LLMManager(cache="memory", budget=self.budget)
        answer: Response[Any] = Response("one two", Usage(2, 3))
        model = ScriptedModel(then=answer).as_stream()
        self.llm.register_model(
            "m", model, {"version": "1"}, breaker=self.breaker, max_concurrency=max_concurrency
        )

    def open_stream(self) -> Stream:
        stream = self.llm.stream("hi", use_cache=False)
        assert next(stream) == "one"
        return stream

    def ask(self) -> None:
        prompt = f"hi {next(self._numbers)}"
        assert self.llm.complete(prompt).text == "one two"
        assert self.llm.complete(prompt).cached

    def look(self) -> None:
        self.llm.get_metrics()
        self.llm.get_status()
        self.llm.health("m")
        self.breaker.statistics()
        self.llm.registry.route("m")

    def work(self) -> None:
        """Do a little of everything."""
        self.ask()
        with self.llm.stream("hi", use_cache=False) as stream:
            list(stream)
        self.look()

    @property
    def in_use(self) -> int:
        used: int = self.llm.get_status()["pools"]["m"]["in_use_clients"]
        return used


def some_of(count: int) -> range:
    """A tenth of the lines, others in each run: together they take too long."""
    return range(random.randint(1, 10), count + 1, 10)


def lines_of(work: Callable[[], object]) -> int:
    counting = Interruption(-1, work)
    counting.during(work)
    return counting.lines


def test_a_stream_may_be_collected_at_any_line() -> None:
    house = House()
    house.work()
    calls_each = house.llm.get_metrics()["total_requests"]
    for at in some_of(lines_of(House().work)):
        house = House()
        streams = [house.open_stream()]
        interruption = Interruption(at, streams.clear)
        in_time(functools.partial(interruption.during, house.work))
        streams.clear()
        assert house.in_use == 0
        metrics = house.llm.get_metrics()
        assert metrics["total_requests"] == calls_each + 1
        assert metrics["failed_requests"] == 0
        stats = house.llm.get_model_info("m")["stats"]
        assert stats["requests"] - stats["successes"] == 1, "the collected one was abandoned"
        assert house.breaker.state == "closed"
        assert house.budget.spent_tokens == 5 * stats["successes"] + abandoned_tokens()


@functools.cache
def abandoned_tokens() -> int:
    """What a stream that is left early counts in a budget."""
    house = House()
    house.open_stream().close()
    return house.budget.spent_tokens


def test_a_signal_handler_may_look_and_ask_at_any_line() -> None:
    House().work()
    lines = some_of(lines_of(House().work))

    def handler() -> None:
        house.look()
        house.ask()
        house.llm.reset_circuit_breaker("m")

    for at in lines:
        house = House()
        interruption = Interruption(at, handler)
        in_time(functools.partial(interruption.during, house.work))
        assert house.in_use == 0
        assert house.breaker.state == "closed"
        assert house.llm.get_metrics()["failed_requests"] == 0


def test_ctrl_c_at_any_line_leaves_no_lock_and_no_slot_taken(small_heap: None) -> None:
    House().work()
    lines = some_of(lines_of(House().work))

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    def interrupted(at: int) -> bool:
        try:
            Interruption(at, ctrl_c).during(house.work)
        except KeyboardInterrupt:
            return True
        return False

    for at in lines:
        house = House()
        if interrupted(at):
            in_time(house.work)
            if house.in_use:
                gc.collect()  # of the frames that the exception referred to
            assert house.in_use == 0, at


def blocking(prompt: str, options: dict[str, Any]) -> str:
    return "fine"


async def on_the_loop(prompt: str, options: dict[str, Any]) -> str:
    return "fine"


# Ctrl-C may come between the call of an async function and its start.
@pytest.mark.filterwarnings("ignore:coroutine 'asend' was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("interrupt", ["signal handler", "ctrl-c"])
def test_worker_threads_are_not_lost(interrupt: str) -> None:
    """With few of them, each lost place would be missed."""
    with LLMManager(cache=None, max_workers=2, retry=RetryPolicy(max_attempts=1)) as llm:
        llm.register_model("m", blocking, timeout=20.0)
        llm.register_model("a", on_the_loop, timeout=20.0)

        def work() -> None:
            for model in ("m", "a"):
                assert llm.complete("hi", model=model).text == "fine"

        def act() -> None:
            work()
            if interrupt == "ctrl-c":
                raise KeyboardInterrupt

        def every_line() -> None:
            for at in lines:
                with suppress(KeyboardInterrupt):
                    Interruption(at, act).during(work)

        work()
        lines = some_of(lines_of(work))
        in_time(every_line)
        in_time(work)
        assert llm.get_metrics()["stuck_calls"] == 0


class OneNews:
    """A signal that fires once, and immediately when it has fired before."""

    def __init__(self) -> None:
        self._wakes: list[Callable[[], None]] = []
        self._fired = False

    def subscribe(self, wake: Callable[[], None]) -> None:
        self._wakes.append(wake)
        if self._fired:
            wake()

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        self._wakes.remove(wake)

    def fire(self) -> None:
        self._fired = True
        for wake in self._wakes:
            wake()


def test_what_a_thread_waits_for_may_happen_at_any_line_of_its_wait() -> None:
    def every_line() -> None:
        for at in itertools.count(1):
            news = OneNews()
            interruption = Interruption(at, news.fire, of="")
            interruption.during(lambda news=news: SystemClock().sleep(0.001, until=news))  # type: ignore[misc]
            if not interruption.happened:
                return

    in_time(every_line)


def test_what_happens_while_a_follower_subscribes_wakes_it() -> None:
    for at in itertools.count(1):
        joined = SharedCalls().join("key", thread=0, blocking=True)
        assert joined is not None
        shared, woken = joined[0], [False]
        interruption = Interruption(at, lambda shared=shared: shared.put([TextDelta("x")]))  # type: ignore[misc]

        def follow(shared: SharedCall = shared, woken: list[bool] = woken) -> None:
            shared.beyond(0).subscribe(lambda: woken.append(True))

        interruption.during(follow)
        if not interruption.happened:
            break
        assert woken[-1], at


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no timers")
def test_a_real_signal_handler_asks_for_figures_while_calls_run() -> None:
    house = House()
    handled = 0

    def handler(*_: object) -> None:
        nonlocal handled
        handled += 1
        house.look()
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            house.work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert handled > 20
    assert house.in_use == 0


def test_the_real_collector_closes_streams_while_calls_run(small_heap: None) -> None:
    house = House()
    threshold = gc.get_threshold()

    def work() -> None:
        for _ in range(100):
            cycle: list[Any] = [house.open_stream()]
            cycle.append(cycle)
            del cycle
            house.work()

    gc.set_threshold(1)
    try:
        in_time(work)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert house.in_use == 0
