"""What holds for any outage: random routes, policies, faults, durations, rivals and exits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import errors as e
from agentkit.engine import effects as fx
from agentkit.engine.exchange import COMPLETE, Exchange, StreamExchange
from agentkit.engine.middleware import Layer
from agentkit.policy.breaker import BreakerPolicy
from agentkit.policy.limits import Need
from agentkit.policy.retry import RetryPolicy
from agentkit.policy.route import Missing, Order
from agentkit.policy.target import Target
from agentkit.testing import Step, faults
from agentkit.types import End, Request, Response, Restart, TextDelta
from tests.engine.error_table import TABLE
from tests.engine.stage import Asked, Stage, trip

pytestmark = pytest.mark.flows

NAMES = "abc"
TICK = 1e-6

faulty = st.sampled_from([row.step for row in TABLE])
broken_streams = st.one_of(
    st.builds(faults.cut_stream, st.integers(0, 4)),
    st.builds(faults.stalled_stream, st.integers(0, 4)),
    st.builds(faults.malformed_chunk, st.integers(0, 4)),
    st.builds(faults.stream_error, st.integers(0, 4), status=st.sampled_from([400, 429, 503])),
    st.just(faults.missing_end()),
    st.just(faults.slow_chunks(1.5)),
    st.lists(
        st.one_of(st.text(max_size=3), st.tuples(st.floats(0, 8), st.just("x")), st.just(End())),
        max_size=5,
    ),
)
outcomes: st.SearchStrategy[Any] = st.one_of(
    st.just("fine"), faulty, st.tuples(st.floats(0.0, 12.0), faulty | st.just("fine"))
)
streamed: st.SearchStrategy[Any] = outcomes | broken_streams
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 4),
    base_delay=st.sampled_from([0.0, 0.5, 1.0]),
    jitter=st.sampled_from([0.0, 0.25]),
    max_retry_after=st.sampled_from([0.0, 5.0]),
)
breakers = st.one_of(
    st.just(False),
    st.builds(
        BreakerPolicy,
        failure_threshold=st.integers(1, 5),
        recovery_timeout=st.sampled_from([0.5, 3.0, 60.0]),
        minimum_calls=st.integers(2, 6),
        slow_call_duration=st.none() | st.just(2.0),
    ),
)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Bugs of callables are logged with a traceback; thousands of them would only cost time."""
    log = logging.getLogger("agentkit.engine")
    log.disabled = True
    yield
    log.disabled = False


class Rival(NamedTuple):
    """What other callers do to a target at one moment."""

    at: float
    whom: int
    deed: str


rivals = st.lists(
    st.builds(
        Rival,
        st.floats(0.01, 20.0),
        st.integers(0, 2),
        st.sampled_from(["trip", "reset", "free a slot", "rest"]),
    ),
    max_size=4,
)


@st.composite
def targets(draw: st.DrawFn, stage: Stage, *, stream: bool) -> list[Target | Missing]:
    found: list[Target | Missing] = []
    for name in NAMES[: draw(st.integers(1, 3))]:
        if draw(st.integers(0, 9)) == 0:
            found.append(Missing(name))
            continue
        found.append(
            stage.target(
                name,
                retry=draw(policies),
                breaker=draw(breakers),
                slots=draw(st.none() | st.just(1)),
                budget=draw(st.none() | st.sampled_from([0, 5, 500])),
                timeout=draw(st.none() | st.sampled_from([2.0, 10.0])),
                first_token_timeout=draw(st.none() | st.just(3.0)),
                provider=draw(st.sampled_from(["one", "two"])),
                context_window=draw(st.none() | st.sampled_from([8_000, 16_000])),
                stream=stream,
                capabilities=draw(st.sampled_from([(), ("prefill",)])),
            )
        )
    return found


class Outage:
    """One drawn world, and the requests that are made in it."""

    def __init__(self, data: st.DataObject, *, stream: bool) -> None:
        self.draw = data.draw
        dice = self.draw(st.sampled_from([0.0, 0.5, 1.0]), label="dice")
        self.stage = Stage(rng=lambda: dice)
        self.stops = self.draw(targets(self.stage, stream=stream), label="route")
        self.outcomes = streamed if stream else outcomes
        self.targets = [stop for stop in self.stops if isinstance(stop, Target)]
        self.held = {
            target.name: target.pool.request(Need(), 0.0)
            for target in self.targets
            if target.pool is not None and self.draw(st.integers(0, 4)) == 0
        }

    def ask(self, exchange: Exchange, *, exits: bool = False, cancels: bool = False) -> Asked:
        """One request through this world."""
        order: Order = self.draw(st.sampled_from(["sequential", "rounds"]), label="order")
        drawn: list[Step] = []

        def step(*_: object) -> Step:
            drawn.append(self.draw(self.outcomes, label="outcome"))
            return drawn[-1]

        meanwhile = {rival.at: self.deed(rival) for rival in self.draw(rivals, label="rivals")}
        if cancels:
            meanwhile[self.draw(st.floats(0.01, 10.0), label="cancelled")] = cancel
        return self.stage.ask(
            *self.stops,
            script={name: [step] * 99 for name in NAMES},
            exchange=exchange,
            order=order,
            rounds=self.draw(st.integers(1, 7)),
            deadline=self.draw(st.sampled_from([0.4, 5.0, 30.0, 300.0]), label="deadline"),
            meanwhile=meanwhile,
            stop_after=self.draw(st.integers(0, 12), label="leaves after") if exits else None,
            fallback_on_invalid=self.draw(st.booleans()),
            fallback_on_content_filter=self.draw(st.booleans()),
            cached=self.draw(st.booleans(), label="cached"),
        )

    def deed(self, rival: Rival) -> Callable[[], None]:
        """What `rival` does."""

        def act() -> None:
            if rival.whom >= len(self.targets):
                return
            target = self.targets[rival.whom]
            if rival.deed == "trip" and target.breaker is not None and target.breaker.would_admit():
                trip(target.breaker)
            elif rival.deed == "reset" and target.breaker is not None:
                target.breaker.reset()
            elif rival.deed == "rest":
                target.rate_limited_until = self.stage.clock() + 3.0
            elif rival.deed == "free a slot" and target.name in self.held:
                self.held.pop(target.name).release(self.stage.clock())

        return act

    def nothing_leaked(self) -> None:
        """Every slot and every permit is back."""
        for target in self.targets:
            if target.pool is not None:
                taken = 1 if target.name in self.held else 0
                assert target.pool.in_use == taken
                assert target.pool.waiting == 0
            if target.breaker is not None:
                left = target.breaker.statistics()
                assert (left.probing, left.waiting) == (False, 0)
            if target.budget is not None:
                assert 0 <= target.budget.tokens <= target.budget.capacity


def cancel() -> None:
    raise asyncio.CancelledError


def check(outage: Outage, asked: Asked) -> None:
    """All that holds for every request, whatever happened."""
    outage.nothing_leaked()
    ends_well(asked)
    stays_in_budget(asked)
    ledger_is_true(asked)
    deadline_holds(asked)


def ends_well(asked: Asked) -> None:
    """One outcome is reported, and it is the one that the caller sees."""
    (outcome,) = asked.watch.ends
    error = asked.error
    if asked.played.closed or isinstance(error, asyncio.CancelledError):
        assert outcome == "cancelled"
    elif error is not None:
        assert outcome == "error"
        assert isinstance(error, e.LLMError)
        assert error.ledger is asked.ledger
    else:
        assert outcome in {"success", "fallback_success", "cache_hit"}
        assert isinstance(asked.played.result, Response)
        assert asked.played.result.ledger is asked.ledger
        assert asked.ledger.answered_by == asked.played.result.model


def stays_in_budget(asked: Asked) -> None:
    """Attempts are counted, the chain is walked one way, nothing follows a success."""
    route = asked.call.walk.route
    stops = {stop.name: stop for stop in route.stops}
    if route.order == "rounds":
        assert len(asked.order) <= route.max_attempts
    else:
        for name, count in asked.played.sends.items():
            target = stops[name]
            assert isinstance(target, Target)
            assert count <= target.retry.max_attempts
        walked = [name for name, _ in groupby(asked.order)]
        assert walked == [name for name in route.names if name in walked]
    outcomes = [entry.outcome for entry in asked.ledger.sent]
    assert "success" not in outcomes[:-1]
    assert set(outcomes[:-1]) <= {"failure", "abandoned"}


def ledger_is_true(asked: Asked) -> None:
    """The ledger records what was sent, slept and waited; the observer received the same."""
    ledger = asked.ledger
    assert [entry.model for entry in ledger.sent] == asked.order
    starts = [entry.started for entry in ledger]
    assert starts == sorted(starts)
    for _, entries in groupby(sorted(ledger.sent, key=lambda each: each.model), lambda x: x.model):
        assert [entry.number for entry in entries] == list(range(1, asked.played.sends[_] + 1))
    assert [watch.model for watch in asked.watch.attempts] == asked.order
    heard = [entry for watch in asked.watch.attempts for entry in watch.ends]
    assert heard == list(ledger.sent), "each attempt ends once, as the ledger says"
    assert asked.watch.skips == [entry for entry in ledger if not entry.sent]
    assert ledger.duration == pytest.approx(asked.played.duration)
    assert sum(entry.duration for entry in ledger.sent) <= ledger.duration + TICK
    assert ledger.slept + ledger.waited <= ledger.duration + TICK


def deadline_holds(asked: Asked) -> None:
    """No wait starts that does not fit, and nothing continues after the deadline."""
    limit = asked.call.deadline.seconds
    assert limit is not None
    assert asked.played.duration <= limit + TICK
    for at, effect in zip(asked.played.times, asked.played.effects, strict=True):
        if isinstance(effect, fx.Sleep):
            assert effect.seconds >= 0
            assert at + effect.seconds <= limit + TICK
        if isinstance(effect, fx.Send | fx.Pull):
            assert effect.timeout is not None
            assert at + effect.timeout <= limit + TICK


@given(st.data())
@settings(max_examples=120)
def test_any_outage_of_complete_answers(data: st.DataObject) -> None:
    outage = Outage(data, stream=False)
    for _ in range(data.draw(st.integers(1, 3), label="requests")):
        asked = outage.ask(COMPLETE)
        check(outage, asked)
        if asked.played.result is not None:
            assert asked.played.result.text in {"fine", ""}
        outage.stage.clock.advance(data.draw(st.sampled_from([0.0, 1.0, 61.0]), label="then"))


@given(st.data(), st.sampled_from(["raise", "restart", "continue"]))
@settings(max_examples=120)
def test_any_outage_of_streams(data: st.DataObject, on_interrupt: Any) -> None:
    outage = Outage(data, stream=True)
    for _ in range(data.draw(st.integers(1, 3), label="requests")):
        asked = outage.ask(StreamExchange(on_interrupt))
        check(outage, asked)
        reported_truthfully(asked)
        outage.stage.clock.advance(data.draw(st.sampled_from([0.0, 1.0, 61.0]), label="then"))


def reported_truthfully(asked: Asked) -> None:
    """What the consumer was shown is the answer: no gap, no duplicate, one end."""
    shown = ""
    ends = 0
    for event in asked.played.emitted:
        assert ends == 0, "nothing follows the end mark"
        if isinstance(event, TextDelta):
            shown += event.text
        elif isinstance(event, Restart):
            assert event.discarded == shown
            shown = ""
        else:
            ends += 1
    if asked.played.result is not None:
        assert ends == 1
        assert asked.played.result.text == shown
    else:
        assert ends == 0
    if isinstance(asked.error, e.StreamInterruptedError):
        assert asked.error.partial == shown


@given(st.data(), st.booleans())
@settings(max_examples=100)
def test_leaving_at_any_moment_leaks_nothing(data: st.DataObject, stream: bool) -> None:
    outage = Outage(data, stream=stream)
    asked = outage.ask(StreamExchange("restart") if stream else COMPLETE, exits=True)
    outage.nothing_leaked()
    ends_well(asked)
    assert [entry.model for entry in asked.ledger.sent] == asked.order or asked.played.closed


@given(st.data(), st.booleans())
@settings(max_examples=100)
def test_a_cancellation_at_any_moment_leaks_nothing(data: st.DataObject, stream: bool) -> None:
    outage = Outage(data, stream=stream)
    asked = outage.ask(StreamExchange("continue") if stream else COMPLETE, cancels=True)
    check(outage, asked)


scripts = st.lists(outcomes, max_size=6).map(lambda steps: [*steps, *["fine"] * 20])
models = st.fixed_dictionaries(
    {
        "retry": policies,
        "breaker": breakers,
        "budget": st.none() | st.sampled_from([0, 5]),
        "timeout": st.none() | st.just(2.0),
        "provider": st.sampled_from(["one", "two"]),
    }
)


class Acted(NamedTuple):
    """Everything that can be seen of one request and of the models after it."""

    text: str | None
    error: tuple[type[BaseException], str] | None
    ledger: list[Any]
    skips: list[Any]
    ends: list[Any]
    retries: list[Any]
    fallbacks: list[Any]
    times: Sequence[float]
    breakers: list[Any]


def unchanged(request: Request) -> Layer:
    """A middleware that does nothing, around each attempt."""
    return (yield request)


unchanged.level = "attempt"  # type: ignore[attr-defined]


def act(models: list[dict[str, Any]], script: list[Any], **how: Any) -> list[Acted]:
    """Three requests in a world of their own."""
    stage = Stage()
    stops = [stage.target(name, **options) for name, options in zip(NAMES, models, strict=False)]
    steps = {stop.name: script[index:] for index, stop in enumerate(stops)}
    acted = []
    for _ in range(3):
        asked = stage.ask(*stops, script=steps, **how)
        steps = {name: steps[name][count:] for name, count in _counts(stops, asked)}
        result, error, watch = asked.played.result, asked.error, asked.watch
        acted.append(
            Acted(
                None if result is None else result.text,
                None if error is None else (type(error), str(error)),
                [*asked.ledger, asked.ledger.to_dict()],
                watch.skips,
                watch.ends,
                watch.retries,
                watch.fallbacks,
                asked.played.times,
                [stop.breaker and stop.breaker.statistics() for stop in stops],
            )
        )
        stage.clock.advance(1.0)
    return acted


def _counts(stops: list[Target], asked: Asked) -> list[tuple[str, int]]:
    return [(stop.name, asked.played.sends.get(stop.name, 0)) for stop in stops]


@given(
    st.lists(models, min_size=1, max_size=3),
    scripts,
    st.sampled_from(["sequential", "rounds"]),
    st.sampled_from([0.4, 5.0, 300.0]),
)
@settings(max_examples=75)
def test_a_first_attempt_in_one_frame_is_like_any_other(
    models: list[dict[str, Any]], script: list[Any], order: Order, deadline: float
) -> None:
    straight = act(models, script, order=order, deadline=deadline)
    assert straight == act(
        models, script, order=order, deadline=deadline, middleware=[unchanged]
    ), "with attempt middleware, the first attempt is made like any other"
