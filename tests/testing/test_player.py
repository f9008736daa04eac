"""The driver without I/O answers every effect from its script and writes down what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import repeat
from typing import Any

import pytest

from agentkit.engine import effects as fx
from agentkit.policy.limits import Member, Need, Pool
from agentkit.testing import FakeClock, Played, ScriptError, ScriptExhaustedError, faults, play
from agentkit.types import End, Request, Response, StreamEvent, TextDelta
from tests.engine.stage import Stage

TARGET = Stage().target("a")
REQUEST = Request(prompt="hi")


class Immediate:
    """An attempt that waits for no worker."""

    def longest_wait(self) -> float:
        return 0.0

    def begin_after(self, seconds: float) -> float:
        raise AssertionError


def send(timeout: float | None = None) -> fx.Send:
    return fx.Send(TARGET, TARGET.endpoint, REQUEST, timeout, True, lambda: None, Immediate())


def opening() -> fx.Open:
    return fx.Open(TARGET, TARGET.endpoint, REQUEST, True, lambda: None, Immediate())


def run(flow: fx.Flow[Any], *steps: Any, **how: Any) -> Played[Any]:
    return play(flow, {"a": steps}, clock=how.pop("clock", None) or FakeClock(), **how)


def test_the_result_and_every_effect_are_recorded() -> None:
    def flow() -> fx.Flow[Any]:
        yield from fx.Sleep(2.0)
        answer = yield from send()
        return f"{answer}!"

    played = run(flow(), (3.0, "one"))
    assert played.value() == "one!"
    assert [type(effect).__name__ for effect in played.effects] == ["Sleep", "Send"]
    assert played.times == (0.0, 2.0)
    assert played.sleeps == (2.0,)
    assert played.sends == {"a": 1}
    assert played.requests == (("a", REQUEST),)
    assert played.duration == 5.0


def test_what_the_script_raises_is_thrown_into_the_flow() -> None:
    def flow() -> fx.Flow[Any]:
        try:
            return (yield from send())
        except ConnectionError as error:
            return f"caught {error}"

    assert run(flow(), ConnectionError("down")).value() == "caught down"


def test_what_the_flow_raises_is_its_error() -> None:
    def flow() -> fx.Flow[Any]:
        return (yield from send())

    played = run(flow(), KeyError("x"))
    assert isinstance(played.error, KeyError)
    with pytest.raises(KeyError):
        played.value()


def test_a_pause_beyond_the_limit_is_a_time_out_at_the_limit() -> None:
    def flow() -> fx.Flow[Any]:
        try:
            return (yield from send(4.0))
        except fx.TimedOut:
            return "too slow"

    played = run(flow(), (4.5, "late"))
    assert played.value() == "too slow"
    assert played.duration == 4.0
    assert run(flow(), (4.0, "in time")).value() == "in time"


def as_event(event: str | StreamEvent) -> StreamEvent:
    return TextDelta(event) if isinstance(event, str) else event


def test_a_stream_is_pulled_event_by_event_and_what_is_emitted_is_kept() -> None:
    def flow() -> fx.Flow[int]:
        source = yield from opening()
        count = 0
        while (event := (yield from fx.Pull(source, None))) is not None:
            count += 1
            yield from fx.Emit(event if isinstance(event, list) else [as_event(event)])
        yield from fx.Close(source)
        return count

    played = run(flow(), ["a", End()])
    assert played.value() == 2
    assert played.emitted == (TextDelta("a"), End())


def test_loads_and_stores_meet_in_the_given_store() -> None:
    store: dict[str, Response[Any]] = {"old": Response("kept")}

    def flow() -> fx.Flow[Any]:
        yield from fx.Store("new", Response("fresh"), False)
        return (yield from fx.Load("old", False)), (yield from fx.Load("none", False))

    assert run(flow(), store=store).value() == (Response("kept"), None)
    assert store["new"].text == "fresh"


def test_a_flow_on_the_side_runs_at_once() -> None:
    events = []

    def side() -> fx.Flow[None]:
        events.append((yield from send()))

    def flow() -> fx.Flow[bool]:
        running = yield from fx.Launch(side(), "key")
        events.append("after")
        return running.alive()

    assert run(flow(), "side").value() is False
    assert events == ["side", "after"]


class TestMeanwhile:
    def test_a_wait_ends_when_its_signal_fires(self) -> None:
        class Bell:
            """A signal that is rung by hand."""

            def __init__(self) -> None:
                self.wakes: list[Callable[[], None]] = []

            def subscribe(self, wake: Callable[[], None]) -> None:
                self.wakes.append(wake)

            def unsubscribe(self, wake: Callable[[], None]) -> None:
                self.wakes.remove(wake)

            def ring(self) -> None:
                for wake in self.wakes:
                    wake()

        bell = Bell()

        def flow() -> fx.Flow[bool]:
            return (yield from fx.Sleep(10.0, until=bell))

        played = run(flow(), meanwhile={3.0: bell.ring})
        assert played.value() is True
        assert played.duration == 3.0
        assert bell.wakes == [], "it is unsubscribed"

    def test_one_that_fired_before_takes_no_time(self) -> None:
        granted = Pool([Member(max_concurrency=1)]).request(Need(), 0.0)

        def flow() -> fx.Flow[bool]:
            return (yield from fx.Sleep(10.0, until=granted))

        played = run(flow())
        assert played.value() is True
        assert played.duration == 0.0

    def test_things_happen_in_order_at_their_time(self) -> None:
        clock = FakeClock(0.0)
        events: list[float] = []

        def flow() -> fx.Flow[Any]:
            yield from fx.Sleep(2.0)
            return (yield from send())

        happenings = {at: lambda: events.append(clock()) for at in (3.0, 1.0, 9.0)}
        run(flow(), (4.0, "x"), clock=clock, meanwhile=happenings)
        assert events == [1.0, 3.0]

    def test_a_cancellation_reaches_the_effect_under_way(self) -> None:
        stop = asyncio.CancelledError()

        def cancel() -> None:
            raise stop

        def flow() -> fx.Flow[None]:
            yield from fx.Sleep(10.0)

        played = run(flow(), meanwhile={4.0: cancel})
        assert played.error is stop
        assert played.duration == 4.0


class TestLeaving:
    def test_a_flow_is_closed_after_so_many_effects(self) -> None:
        events = []

        def flow() -> fx.Flow[None]:
            try:
                while True:
                    yield from fx.Sleep(1.0)
            finally:
                events.append("cleaned up")

        played = run(flow(), stop_after=3)
        assert played.closed
        assert len(played.effects) == 3
        assert events == ["cleaned up"]
        with pytest.raises(AssertionError):
            played.value()


class TestMistakesOfTheTest:
    def test_a_script_that_is_too_short_is_not_a_model_failure(self) -> None:
        def flow() -> fx.Flow[Any]:
            yield from send()
            try:
                return (yield from send())
            except Exception:
                return "swallowed"

        with pytest.raises(ScriptExhaustedError, match="'a' has no step for request 2"):
            run(flow(), "one")

    def test_an_invalid_step_is_reported(self) -> None:
        def flow() -> fx.Flow[Any]:
            try:
                return (yield from send())
            except Exception:
                return "swallowed"

        with pytest.raises(ScriptError):
            run(flow(), 42)

    def test_an_endless_wait_is_reported(self) -> None:
        def flow() -> fx.Flow[Any]:
            return (yield from send())

        with pytest.raises(ScriptError, match="forever"):
            run(flow(), faults.silence())

    def test_an_endless_flow_is_reported(self) -> None:
        def flow() -> fx.Flow[None]:
            while True:
                yield from send()

        with pytest.raises(ScriptError, match="10000 effects"):
            play(flow(), {"a": repeat("x")}, clock=FakeClock())

    def test_an_interrupt_of_the_test_run_is_not_thrown_into_the_flow(self) -> None:
        def interrupted(prompt: str, kwargs: dict[str, object]) -> str:
            raise KeyboardInterrupt

        def flow() -> fx.Flow[Any]:
            try:
                return (yield from send())
            except KeyboardInterrupt:
                return "swallowed"

        with pytest.raises(KeyboardInterrupt):
            run(flow(), interrupted)
