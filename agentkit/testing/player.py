"""The third driver: carries an engine flow out without any I/O, thread, loop or real time.

Every effect is answered from a script, time passes on a `FakeClock`, and what was asked for is
written down. Thousands of outages take seconds.
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
from agentkit.testing.model import USUAL_ANSWER, ScriptExhaustedError
from agentkit.testing.script import Act, Pause, ScriptError, Stage, Step, perform
from agentkit.testing.wire.server import words
from agentkit.types import Request, Response, Signal, StreamEvent

R = TypeVar("R")
T = TypeVar("T")

_ENDLESS = 10_000
"""A flow that asks for more effects than this never ends."""


@dataclass(frozen=True, slots=True, eq=False)
class Played(Generic[R]):
    """What became of a flow.

    Attributes:
        result: what it returned; None when it raised or was closed.
        error: what it raised, or None.
        closed: whether `stop_after` closed it before its end.
        effects: every effect it asked for, in order, those of flows on the side included.
        times: when it asked for each of them, in seconds from the start.
        emitted: the events it handed to its consumer.
        sleeps: the seconds that each wait was meant to take.
        requests: what was sent, in order, as pairs of a model's name and the request.
        duration: seconds from its start to its end.
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
        """How often each model was asked."""
        return Counter(name for name, _ in self.requests)

    def value(self) -> R:
        """The result; raises the flow's error, if it has one."""
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
    """Carry `flow` out to its end and tell what it did.

    Args:
        flow: the flow; its clock must be `clock`.
        script: for each model's name the steps (see `agentkit.testing.Step`) that answer its
            requests, one a request; a text alone answers all of them, as does
            ``itertools.repeat(step)``. A pause longer than the request's time limit is a time-out.
        clock: time; pauses and waits advance it.
        store: the response cache, by key; default: an empty one.
        meanwhile: what else happens in the world: functions by the second after the start, called
            when time passes that point. What one raises is thrown into the flow at the effect
            under way, as a cancellation would be.
        stop_after: close the flow once it has asked for so many effects, as a caller does who
            leaves.

    Raises:
        ScriptExhaustedError: a model was asked more often than its script says.
        ScriptError: the flow waits for ever, or never ends.
    """
    return _Player(script, clock, {} if store is None else store, meanwhile or {}).play(
        flow, stop_after
    )


class _Scene:
    """An opened stream."""

    __slots__ = ("acts",)

    def __init__(self, acts: Iterator[Act]) -> None:
        self.acts = acts


class _Landed:
    """A flow on the side, which ended before its caller went on."""

    def alive(self) -> bool:
        return False

    def cancel(self) -> None:
        """It is over."""


class _Closed(BaseException):
    """Unwinds nested flows when `stop_after` is reached."""


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
    _agenda: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    _stop_after: int = _ENDLESS

    def play(self, flow: fx.Flow[R], stop_after: int | None) -> Played[R]:
        """The whole of it."""
        began = self.clock()
        self._agenda = sorted(((began + at, act) for at, act in self.meanwhile.items()), key=_when)
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
            result, error, closed, tuple(self.effects), tuple(at - began for at in self.times),
            tuple(self.emitted), tuple(self.sleeps), tuple(self.requests), self.clock() - began,
        )  # fmt: skip

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
        """Whether `error` belongs into the flow; a mistake of the test, or ^C, does not."""
        if isinstance(error, ScriptError):
            return False
        return isinstance(error, Exception) or any(error is each for each in self._raised)

    def _from_script(self, happen: Callable[[], T]) -> T:
        """What `happen` returns; what it raises is the script's doing."""
        try:
            return happen()
        except BaseException as error:
            self._raised.append(error)
            raise

    def _perform(self, effect: fx.Effect[Any]) -> Any:
        if isinstance(effect, fx.Send):
            return self._act(self._begin(effect, stream=False), effect.timeout)
        if isinstance(effect, fx.Open):
            return _Scene(self._begin(effect, stream=True))
        if isinstance(effect, fx.Pull):
            return self._act(effect.source.acts, effect.timeout)  # type: ignore[attr-defined]
        if isinstance(effect, fx.Sleep):
            return self._sleep(effect)
        if isinstance(effect, fx.Load):
            return self.store.get(effect.key)
        if isinstance(effect, fx.Store):
            self.store[effect.key] = effect.response
        elif isinstance(effect, fx.Launch):
            return self._launch(effect)
        elif isinstance(effect, fx.Emit):
            self.emitted.append(effect.event)
        elif not isinstance(effect, fx.Close):
            raise TypeError(f"{type(effect).__name__} is no effect of the engine")
        return None

    def _begin(self, effect: fx.Send | fx.Open, *, stream: bool) -> Iterator[Act]:
        name, request = effect.target.name, effect.request
        self.requests.append((name, request))
        if name not in self._steps:
            steps = self.script.get(name, ())
            self._steps[name] = repeat(steps) if isinstance(steps, str) else iter(steps)
        step: Any = next(self._steps[name], None)
        if step is None:
            number = sum(asked == name for asked, _ in self.requests)
            raise ScriptExhaustedError(f"the script of {name!r} has no step for request {number}")
        while callable(step) and not isinstance(step, type):
            step = step(request.text, dict(request.params))
        return perform(step, Stage(stream, USUAL_ANSWER, words))

    def _act(self, acts: Iterator[Act], limit: float | None) -> Any:
        left = math.inf if limit is None else max(limit, 0.0)
        while (act := self._from_script(lambda: next(acts, None))) is not None:
            if not isinstance(act, Pause):
                return act
            if act.seconds > left:
                self._pass(left, "a silent model")
                raise fx.TimedOut
            self._pass(act.seconds, "a silent model")
            left -= act.seconds
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
        """Let time pass with all that happens meanwhile, until `fired` at most."""
        until = self.clock() + seconds
        while fired is None or not fired.yes:
            if not self._agenda or self._agenda[0][0] > until:
                if until == math.inf:
                    raise ScriptError(f"{what} would last for ever")
                self.clock.advance(max(until - self.clock(), 0.0))
                return
            at, happen = self._agenda.pop(0)
            self.clock.advance(max(at - self.clock(), 0.0))
            self._from_script(happen)

    def _launch(self, effect: fx.Launch) -> fx.Running:
        token = LED.set(LED.get() | {effect.leads})
        try:
            self.carry(effect.flow)
        finally:
            LED.reset(token)
        return _Landed()


class _Fired:
    """Whether a signal has fired while somebody waited for it."""

    __slots__ = ("_signal", "yes")

    def __init__(self, signal: Signal | None) -> None:
        self.yes = False
        self._signal = signal
        if signal is not None:
            signal.subscribe(self._ring)

    def _ring(self) -> None:
        self.yes = True

    def forget(self) -> None:
        """Wait no longer."""
        if self._signal is not None:
            self._signal.unsubscribe(self._ring)


def _when(entry: tuple[float, object]) -> float:
    return entry[0]
