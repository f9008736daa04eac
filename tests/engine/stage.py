"""Engine calls without a manager: targets, a clock, a watching observer, and `play`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentkit.engine.call import Call, Check, Rules
from agentkit.engine.exchange import COMPLETE, Exchange
from agentkit.engine.middleware import split
from agentkit.engine.request import run_request
from agentkit.engine.shared_call import SharedCalls
from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker
from agentkit.policy.limits import Member, Pool
from agentkit.policy.retry import RetryBudget, RetryPolicy
from agentkit.policy.route import Missing, Order, Route
from agentkit.policy.target import Target
from agentkit.providers.endpoint import endpoint_of
from agentkit.testing import FakeClock, Played, ScriptedModel, Step, play
from agentkit.types import Request, Response
from agentkit.types.ledger import Entry, Ledger
from agentkit.types.observer import AttemptObserver, CallObserver, CallOutcome, Observer

LITERAL = RetryPolicy(jitter=0.0)


class AttemptWatch(AttemptObserver):
    def __init__(self, model: str) -> None:
        self.model = model
        self.ends: list[Entry] = []

    def end(
        self, entry: Entry, response: Response[Any] | None, error: BaseException | None
    ) -> None:
        self.ends.append(entry)


class CallWatch(CallObserver):
    def __init__(self) -> None:
        self.attempts: list[AttemptWatch] = []
        self.skips: list[Entry] = []
        self.ends: list[CallOutcome] = []
        self.retries: list[tuple[str, int, float, str]] = []
        self.fallbacks: list[tuple[str, str, str]] = []

    def attempt(
        self, model: str, provider: str, number: int, index: int, request: Request, model_id: str
    ) -> AttemptWatch:
        self.attempts.append(AttemptWatch(model))
        return self.attempts[-1]

    def retry(
        self, model: str, provider: str, number: int, delay: float, error: BaseException,
        reason: str,
    ) -> None:  # fmt: skip
        self.retries.append((model, number, delay, reason))

    def fallback(self, source: str, to: str, reason: str) -> None:
        self.fallbacks.append((source, to, reason))

    def skipped(self, entry: Entry) -> None:
        self.skips.append(entry)

    def end(
        self,
        outcome: CallOutcome,
        ledger: Ledger,
        response: Response[Any] | None,
        error: BaseException | None,
    ) -> None:
        self.ends.append(outcome)


class Watch(Observer):
    def __init__(self) -> None:
        self.calls: list[CallWatch] = []

    def begin(self, request: Request, models: tuple[str, ...]) -> CallWatch:
        self.calls.append(CallWatch())
        return self.calls[-1]


@dataclass
class Asked:
    """One request after it was played."""

    call: Call
    played: Played[Response[Any]]
    watch: CallWatch

    @property
    def order(self) -> list[str]:
        """Who was asked, in order."""
        return [name for name, _ in self.played.requests]

    @property
    def ledger(self) -> Ledger:
        return self.call.ledger

    @property
    def text(self) -> str:
        return self.played.value().text

    @property
    def error(self) -> BaseException | None:
        return self.played.error

    @property
    def reasons(self) -> list[str | None]:
        """Why models were skipped, in order."""
        return [entry.reason for entry in self.ledger if not entry.sent]


@dataclass
class Stage:
    """A world with its own time, in which requests are played one after another."""

    clock: FakeClock = field(default_factory=FakeClock)
    watch: Watch = field(default_factory=Watch)
    store: dict[str, Response[Any]] = field(default_factory=dict)
    rng: Callable[[], float] = lambda: 0.5

    def target(
        self,
        name: str = "a",
        *,
        retry: RetryPolicy = LITERAL,
        breaker: BreakerPolicy | bool = True,
        slots: int | None = None,
        budget: int | None = None,
        stream: bool = False,
        capabilities: Iterable[str] = (),
        provider: str = "custom",
        **more: Any,
    ) -> Target:
        """A target; `stream` gives it streams that owe an end mark."""
        model: Any = ScriptedModel()
        if stream:
            model = model.as_stream(*capabilities)
        policy = BreakerPolicy() if breaker is True else breaker
        return Target(
            name,
            provider,
            endpoint_of(model, name=name, provider=provider, fingerprint=name, durable=False),
            {},
            retry,
            CircuitBreaker(name=name, policy=policy, clock=self.clock) if policy else None,
            None if slots is None else Pool([Member(max_concurrency=slots)], name=name),
            None if budget is None else RetryBudget(budget),
            **more,
        )

    def call(
        self,
        *stops: Target | Missing,
        order: Order = "sequential",
        rounds: int = 3,
        request: Request | None = None,
        deadline: float | None = 300.0,
        check: Check | None = None,
        middleware: Iterable[Any] = (),
        cached: bool = False,
        **rules: Any,
    ) -> Call:
        """A request on its way to `stops`."""
        key: Callable[[Request, Target], str | None] = lambda asked, at: f"{at.name}:{asked.text}"  # noqa: E731
        shared = Rules(
            self.watch,
            SharedCalls(),
            self.clock,
            self.rng,
            key,
            cached,
            attempt_middleware=split(tuple(middleware))[1],
            **rules,
        )
        route = Route(stops, order, rounds)
        return Call(
            shared, route, request or Request(prompt="hi"), deadline=deadline, thread=1,
            blocking=True, check=check,
        )  # fmt: skip

    def ask(
        self,
        *stops: Target | Missing,
        script: Mapping[str, Iterable[Step]],
        exchange: Exchange = COMPLETE,
        middleware: Iterable[Any] = (),
        meanwhile: Mapping[float, Callable[[], object]] | None = None,
        stop_after: int | None = None,
        **how: Any,
    ) -> Asked:
        """Play one request from top to bottom."""
        call = self.call(*stops, middleware=middleware, **how)
        flow = run_request(call, split(tuple(middleware))[0], exchange)
        played = play(
            flow,
            script,
            clock=self.clock,
            store=self.store,
            meanwhile=meanwhile,
            stop_after=stop_after,
        )
        return Asked(call, played, self.watch.calls[-1])


def trip(breaker: CircuitBreaker | None) -> None:
    """Open a breaker as other callers' failures would."""
    assert breaker is not None
    while breaker.state != "open":
        permit = breaker.admit()
        assert permit is not None
        permit.failed(RuntimeError("another caller's"))
