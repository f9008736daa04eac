"""The third driver: runs an engine flow without any I/O, thread, event loop or real time.

A script answers every effect, time passes on a `FakeClock`, and the effects are recorded. Thousands
of outages take seconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Generic, TypeVar

from agentkit.engine import effects as fx
from agentkit.engine.shared_call import LED
from agentkit.engine.stepper import Stepper
from agentkit.testing.clock import FakeClock
from agentkit.testing.model import DEFAULT_ANSWER, ScriptExhaustedError
from agentkit.testing.script import Action, Delivery, Pause, ScriptError, Step, actions_of
from agentkit.testing.wire.server import words
from agentkit.types import Request, Response, Signal, StreamEvent

R = TypeVar("R")
T = TypeVar("T")

_ENDLESS = 10_000
"""A flow with more effects than this is taken to be endless."""


@dataclass(frozen=True, slots=True, eq=False)
class Played(Generic[R]):
    """The outcome of a flow.

    Attributes:
        result: the return value; None if the flow raised or was closed.
        error: the exception that the flow raised, or None.
        closed: whether `stop_after` closed the flow before its end.
        effects: every effect that the flow requested, in order, including those of its side flows.
        times: the time of each effect, in seconds from the start.
        emitted: the events that the flow sent to its consumer.
        sleeps: the intended seconds of each wait.
        requests: the requests that were sent, in order, as pairs of a model's name and the request.
        duration: seconds from start to end.
    """

    result: R | None
    error: BaseException | None
    closed: bool
    effects: tuple[fx.Effect[Any], ...]
    times: tuple[float, ...]
    emitted: tuple[StreamEvent, ...]
    sleeps: tuple[float, ...]
    requests: tuple[tuple[str, Request], ...]
    duration: float

    @property
    def sends(self) -> Counter[str]:
        """The number of requests to each model."""
        return Counter(name for name, _ in self.requests)

    def value(self) -> R:
        """The result; raises the error of the flow, if there is one."""
        if self.error is not None:
            raise self.error
        if self.closed:
            raise AssertionError("the flow was closed before its end")
        return self.result  # type: ignore[return-value]


def play(
    flow: fx.Flow[R],
    script: Mapping[str, Iterable[Step]],
    *,
    clock: FakeClock,
    store: MutableMapping[str, Response[Any]] | None = None,
    meanwhile: Mapping[float, Callable[[], object]] | None = None,
    stop_after: int | None = None,
) -> Played[R]:
    """Run `flow` to its end and return what it did.

    Args:
        flow: the flow; its clock must be `clock`.
        script: by the name of each model, the steps (see `agentkit.testing.Step`) that answer its
            requests, one per request; a plain str answers all of them, as does
            ``itertools.repeat(step)``. A pause longer than the request's time limit is a timeout.
        clock: the clock that pauses and waits advance.
        store: the response cache, by key (default: an empty one).
        meanwhile: other events: functions by the second after the start, called when time passes
            that point. An exception in one is thrown into the flow at the current effect, like a
            cancellation.
        stop_after: close the flow after this many effects, like a caller who leaves.

    Raises:
        ScriptExhaustedError: a model was called more often than its script has steps.
        ScriptError: the flow waits forever, or never ends.
    """
    return _Player(script, clock, {} if store is None else store, meanwhile or {}).play(
        flow, stop_after
    )


class _OpenStream:
    """An open stream."""

    __slots__ = ("actions",)

    def __init__(self, actions: Iterator[Action]) -> None:
        self.actions = actions


class _Finished:
    """A side flow, which ended before its caller continued."""

    def alive(self) -> bool:
        return False

    def cancel(self) -> None:
        """There is nothing to cancel."""


class _Closed(BaseException):
    """Ends nested flows when `stop_after` is reached."""


@dataclass(slots=True)
class _Player:
    script: Mapping[str, Iterable[Step]]
    clock: FakeClock
    store: MutableMapping[str, Response[Any]]
    meanwhile: Mapping[float, Callable[[], object]]
    effects: list[fx.Effect[Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    emitted: list[StreamEvent] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    requests: list[tuple[str, Request]] = field(default_factory=list)
    _raised: list[BaseException] = field(default_factory=list)
    _steps: dict[str, Iterator[Step]] = field(default_factory=dict)
    _events: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    _stop_after: int = _ENDLESS

    def play(self, flow: fx.Flow[R], stop_after: int | None) -> Played[R]:
        """Run `flow` and record it."""
        began = self.clock()
        self._events = sorted(
            ((began + at, action) for at, action in self.meanwhile.items()), key=_when
        )
        self._stop_after = _ENDLESS if stop_after is None else stop_after
        result: R | None = None
        error: BaseException | None = None
        closed = False
        try:
            result = self.carry(flow)
        except _Closed:
            closed = True
            if stop_after is None:
                raise ScriptError(f"the flow asked for {_ENDLESS} effects") from None
        except BaseException as raised:
            if not self._is_scripted(raised):
                raise
            error = raised
        return Played(
            result=result,
            error=error,
            closed=closed,
            effects=tuple(self.effects),
            times=tuple(at - began for at in self.times),
            emitted=tuple(self.emitted),
            sleeps=tuple(self.sleeps),
            requests=tuple(self.requests),
            duration=self.clock() - began,
        )

    def carry(self, flow: fx.Flow[R]) -> R:
        """Answer the effects of `flow` until it ends."""
        stepper = Stepper(flow)
        try:
            stepper.advance()
            while not stepper.done:
                if len(self.effects) >= self._stop_after:
                    raise _Closed
                self.effects.append(stepper.effect)
                self.times.append(self.clock())
                try:
                    result = self._perform(stepper.effect)
                except BaseException as error:
                    if not self._is_scripted(error):
                        raise
                    stepper.fail(error)
                else:
                    stepper.advance(result)
            return stepper.result
        finally:
            stepper.close()

    def _is_scripted(self, error: BaseException) -> bool:
        """Whether to throw `error` into the flow: not an error of the test, or Ctrl-C."""
        if isinstance(error, ScriptError):
            return False
        return isinstance(error, Exception) or any(error is each for each in self._raised)

    def _from_script(self, happen: Callable[[], T]) -> T:
        """The result of `happen`; an exception of it is marked as scripted."""
        try:
            return happen()
        except BaseException as error:
            self._raised.append(error)
            raise

    def _perform(self, effect: fx.Effect[Any]) -> Any:
        if isinstance(effect, fx.Send):
            return self._next_action(self._begin(effect, stream=False), effect.timeout)
        if isinstance(effect, fx.Open):
            return _OpenStream(self._begin(effect, stream=True))
        if isinstance(effect, fx.Pull):
            return self._next_action(effect.source.actions, effect.timeout)  # type: ignore[attr-defined]
        if isinstance(effect, fx.Sleep):
            return self._sleep(effect)
        if isinstance(effect, fx.Load):
            return self.store.get(effect.key)
        if isinstance(effect, fx.Store):
            self.store[effect.key] = effect.response
        elif isinstance(effect, fx.Launch):
            return self._launch(effect)
        elif isinstance(effect, fx.Emit):
            self.emitted.extend(effect.events)
        elif not isinstance(effect, fx.Close | fx.Prepare):
            raise TypeError(f"{type(effect).__name__} is not an effect of the engine")
        return None

    def _begin(self, effect: fx.Send | fx.Open, *, stream: bool) -> Iterator[Action]:
        name, request = effect.target.name, effect.request
        self.requests.append((name, request))
        if name not in self._steps:
            steps = self.script.get(name, ())
            self._steps[name] = repeat(steps) if isinstance(steps, str) else iter(steps)
        step: Any = next(self._steps[name], None)
        if step is None:
            number = sum(each == name for each, _ in self.requests)
            raise ScriptExhaustedError(f"the script of {name!r} has no step for request {number}")
        while callable(step) and not isinstance(step, type):
            step = step(request.text, dict(request.params))
        return actions_of(step, Delivery(stream, DEFAULT_ANSWER, words))

    def _next_action(self, actions: Iterator[Action], limit: float | None) -> Any:
        left = math.inf if limit is None else max(limit, 0.0)
        while (action := self._from_script(lambda: next(actions, None))) is not None:
            if not isinstance(action, Pause):
                return action
            if action.seconds > left:
                self._pass(left, "a silent model")
                raise fx.TimedOut
            self._pass(action.seconds, "a silent model")
            left -= action.seconds
        return None

    def _sleep(self, effect: fx.Sleep) -> bool:
        self.sleeps.append(effect.seconds)
        fired = _Fired(effect.until)
        try:
            self._pass(effect.seconds, "a wait", fired)
        finally:
            fired.forget()
        return fired.yes

    def _pass(self, seconds: float, what: str, fired: _Fired | None = None) -> None:
        """Let time pass, with the events of that time, until `fired` at the latest."""
        until = self.clock() + seconds
        while fired is None or not fired.yes:
            if not self._events or self._events[0][0] > until:
                if until == math.inf:
                    raise ScriptError(f"{what} would last forever")
                self.clock.advance(max(until - self.clock(), 0.0))
                return
            at, happen = self._events.pop(0)
            self.clock.advance(max(at - self.clock(), 0.0))
            self._from_script(happen)

    def _launch(self, effect: fx.Launch) -> fx.Running:
        token = LED.set(LED.get() | {effect.leads})
        try:
            self.carry(effect.flow)
        finally:
            LED.reset(token)
        return _Finished()


class _Fired:
    """Whether a signal has fired during a wait."""

    __slots__ = ("_signal", "yes")

    def __init__(self, signal: Signal | None) -> None:
        self.yes = False
        self._signal = signal
        if signal is not None:
            signal.subscribe(self._ring)

    def _ring(self) -> None:
        self.yes = True

    def forget(self) -> None:
        """End the wait."""
        if self._signal is not None:
            self._signal.unsubscribe(self._ring)


def _when(entry: tuple[float, object]) -> float:
    return entry[0]
