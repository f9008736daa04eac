"""One request on its way: what it may still do, and what it has done."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from agentkit.engine.shared_call import Flights
from agentkit.errors import (
    AllModelsFailedError,
    CircuitOpenError,
    ConfigurationError,
    DeadlineExceededError,
    LLMError,
    ProviderTimeoutError,
    RateLimitError,
    StructuredOutputError,
    UnknownModelError,
)
from agentkit.policy.budget import Budget
from agentkit.policy.classification import Classification, Fallback, Retry, classify
from agentkit.policy.deadline import Deadline
from agentkit.policy.retry import RETRY_AFTER_TIMEOUT_COSTS, RETRY_COSTS, RetryPolicy
from agentkit.policy.route import Itinerary, Missing, Route, Target
from agentkit.types import Clock, Request, Response
from agentkit.types.ledger import CacheResult, Entry, Ledger
from agentkit.types.observer import CallObserver, FallbackReason, Observer


class Check(Protocol):
    """What an answer must pass, and how to ask again when it does not."""

    def accept(self, response: Response[Any]) -> Response[Any]:
        """The response, enriched. Raises `StructuredOutputError` to reject it."""
        ...

    def again(self, asked: Request, rejected: StructuredOutputError) -> Request:
        """A new request that names the violations."""
        ...


_NO_BUDGETS: tuple[Budget, ...] = ()


def _no_key(_request: Request, _target: Target) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Rules:
    """What all calls of one manager share."""

    observer: Observer
    flights: Flights
    clock: Clock = time.monotonic
    rng: Callable[[], float] = random.random
    key: Callable[[Request, Target], str | None] = _no_key
    """The response cache's key, or None when the request has none."""
    caching: bool = False
    fallback_on_invalid: bool = False
    fallback_on_content_filter: bool = False
    attempt_middleware: tuple[Any, ...] = ()
    budget: Budget | None = None


class Call:
    """The state of one request, and every decision that needs it."""

    __slots__ = (
        "_last",
        "asked",
        "began",
        "blocking",
        "budgets",
        "cache",
        "causes",
        "check",
        "deadline",
        "due",
        "itinerary",
        "ledger",
        "observer",
        "overdue",
        "request",
        "retry",
        "rules",
        "sent",
        "thread",
    )

    def __init__(
        self,
        rules: Rules,
        route: Route,
        request: Request,
        *,
        deadline: float | None,
        thread: int,
        blocking: bool,
        check: Check | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.rules = rules
        self.asked = self.request = request
        self.retry = retry
        self.budgets = _both(rules.budget, budget) if rules.budget or budget else _NO_BUDGETS
        self.itinerary = Itinerary(route, retry)
        self.began = rules.clock()
        self.deadline = Deadline(deadline, self.began)
        self.thread = thread
        self.blocking = blocking
        self.check = check
        self.ledger = Ledger()
        self.observer: CallObserver = rules.observer.begin(request, route.names)
        self.causes: dict[str, Exception] = {}
        self.due: dict[str, float] = {}
        """Rounds only: clock time before which a target is not asked again."""
        self.overdue: DeadlineExceededError | None = None
        self.cache: CacheResult = "off"
        self.sent = 0
        self._last: tuple[str, FallbackReason] | None = None

    def start_over(self, request: Request) -> None:
        """Ask `request` from the top of the route, in what is left of the deadline."""
        self.asked = self.request = request
        self.itinerary = Itinerary(self.itinerary.route, self.retry)
        self.causes.clear()
        self._last = None

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline.at - self.rules.clock()

    def advance(self) -> Target | None:
        """The next target worth a look, skips recorded; None at the end of the route.

        Raises:
            DeadlineExceededError: no time is left for it.
        """
        while (stop := self.itinerary.next()) is not None:
            if isinstance(stop, Missing):
                self.skip(stop.name, "custom", "not_registered", _not_registered(stop.name))
                continue
            if self.request.tools and "tools" not in stop.endpoint.capabilities:
                error = ConfigurationError(
                    f"{stop.name} cannot use tools", hint="register it with a provider object"
                )
                self.skip(stop.name, stop.provider, "incapable", error)
                continue
            if self._last is not None and self.left() <= 0:
                raise self.overrun("the deadline has passed")
            if self._last is not None and self._last[0] != stop.name:
                self.observer.fallback(self._last[0], stop.name, self._last[1])
            return stop
        return None

    def skip(self, model: str, provider: str, reason: str, error: LLMError) -> None:
        """Pass a stop over for good, because of `error`; nothing was sent to it."""
        self.note(model, provider, reason, error)
        self.causes[model] = error
        self._last = (model, "skipped")
        self.itinerary.drop()

    def note(
        self, model: str, provider: str, reason: str, error: LLMError | None = None,
        breaker: str = "closed",
    ) -> None:  # fmt: skip
        """Record why nothing is sent to `model` now."""
        entry = Entry(
            model,
            provider,
            "skipped",
            started=self.rules.clock() - self.began,
            error=None if error is None else type(error).__name__,
            error_type=None if error is None else error.error_type,
            reason=reason,
            breaker=breaker,
            cache=self.cache,
            position=self.itinerary.position,
        )
        self.ledger.record(entry)
        self.observer.skipped(entry)

    def key_for(self, target: Target) -> str | None:
        """The response-cache key for this request at `target`; None: neither read nor written."""
        rules = self.rules
        if not rules.caching:
            return None
        key = rules.key(self.asked, target) if self.asked.use_cache else None
        self.cache = self.ledger.cache = "miss" if key else "bypass"
        if key is None:
            self.observer.response_cache(target.name, "bypass", 0.0)
        return key

    def hold(self, target: Target) -> float:
        """Seconds to wait before the first attempt at `target` in this visit, usually none.

        Raises:
            RateLimitError: it still has to rest, and waiting for it is not worth it.
        """
        now = self.rules.clock()
        due = self.due.pop(target.name) - now if target.name in self.due else 0.0
        rest = target.rest(now)
        if rest <= 0.0:
            return max(due, 0.0)
        fits = rest <= self.itinerary.policy(target).max_retry_after and rest < self.left()
        if fits and not any(other.rest(now) <= 0 for other in self.itinerary.ahead()):
            return max(due, rest)
        silent = throttled(target, rest)
        self.note(target.name, target.provider, "resting", silent)
        raise silent

    def pause(
        self, target: Target, number: int, error: LLMError, classification: Classification
    ) -> float | None:
        """Seconds to wait before `target` is asked again; None: it is not.

        Raises:
            DeadlineExceededError: the wait does not fit and no other target is left.
        """
        if classification.retry is Retry.NEVER or not self.itinerary.may_repeat():
            return None
        if classification.retry is Retry.IMMEDIATELY:
            self.observer.retry(target.name, target.provider, number + 1, 0.0, error, "next_key")
            return 0.0
        another = self.itinerary.another_left(self.rules.clock())
        if classification.retry is Retry.IF_LAST_TARGET and another:
            return None
        if target.breaker is not None and not target.breaker.would_admit():
            return None
        if isinstance(error, StructuredOutputError):
            return 0.0
        policy, after = self.itinerary.policy(target), error.retry_after
        if after is not None and after > policy.max_retry_after:
            return None
        rng = self.rules.rng
        delay = policy.backoff(number, rng) if after is None else policy.after(after, rng)
        left = self.left()
        if delay >= left:
            if another:
                return None
            raise self.overrun(
                f"the next attempt would wait {delay:.1f} s and {max(left, 0):.1f} s are left"
            ) from error
        slow = isinstance(error, ProviderTimeoutError)
        if target.budget is not None and not target.budget.spend(
            RETRY_AFTER_TIMEOUT_COSTS if slow else RETRY_COSTS
        ):
            self.note(target.name, target.provider, "retry_budget_exhausted")
            return None
        self.observer.retry(
            target.name, target.provider, number + 1, delay, error,
            "backoff" if after is None else "retry_after",
        )  # fmt: skip
        return delay

    def move_on(self, target: Target, error: Exception) -> None:
        """`target` is done with `error`: go past it, or raise when the error ends the request."""
        if error is self.overdue or not isinstance(error, LLMError):
            raise error
        classification = classify(error, target.retry_on)
        fallback = classification.fallback
        if fallback is Fallback.NEVER:
            filtered = classification.reason == "content_filter"
            if filtered and self.rules.fallback_on_content_filter:
                fallback = Fallback.NEXT
            elif not filtered and self.rules.fallback_on_invalid:
                fallback = Fallback.OTHER_PROVIDER
            else:
                raise error
        self.causes[target.name] = error
        opened = isinstance(error, CircuitOpenError)
        self._last = (target.name, "circuit_open" if opened else classification.reason)
        if target.name not in self.due:
            self.itinerary.drop()
        if fallback is Fallback.LARGER_CONTEXT and target.context_window is not None:
            window = target.context_window
            self.itinerary.drop_if(
                lambda other: other.context_window is not None and other.context_window <= window
            )
        elif fallback is Fallback.OTHER_PROVIDER:
            self.itinerary.drop_if(lambda other: other.provider == target.provider)

    def pass_by(self, target: Target, reason: FallbackReason) -> None:
        """`target` is done; the next fallback says that it comes from there, for `reason`."""
        self._last = (target.name, reason)
        self.itinerary.drop()

    def overrun(self, why: str) -> DeadlineExceededError:
        """The error of a request that ran out of time."""
        limit = self.deadline.seconds
        error = DeadlineExceededError(
            f"no answer within the deadline of {limit:g} s: {why}",
            hint="raise deadline=, lower the models' timeout=, or add a faster fallback",
        )
        if self.causes:
            error.__cause__ = list(self.causes.values())[-1]
        self.overdue = error
        return error

    def failure(self) -> Exception:
        """What to raise at the end of the route."""
        causes = list(self.causes.values())
        if len(self.itinerary.route.stops) == 1 and causes:
            return causes[0]
        count = len(causes)
        waits = [wait for cause in causes if (wait := getattr(cause, "retry_after", None))]
        return AllModelsFailedError(
            f"all {count} models failed" if count != 1 else "the only model tried failed",
            causes or [ConfigurationError("the route is empty")],
            hint="see .ledger.explain() for every attempt, and .exceptions for one cause a model",
            retry_after=min(waits, default=None),
        )

    def adopt(self, response: Response[Any], classification: CacheResult) -> Response[Any]:
        """An answer that came without an attempt of our own, as this call's answer."""
        self.cache = self.ledger.cache = classification
        self.ledger.answered_by = response.model
        return Response(
            response.text, response.usage, response.model, response.provider,
            response.finish_reason, response.tool_calls, response.parsed, classification == "hit",
            response.response_id, self.ledger, response.reasoning, None, response.omitted,
        )  # fmt: skip

    def theirs(self, target: Target, error: Exception) -> Exception:
        """A copy of the `error` of a shared call, recorded as the reason to pass `target` over."""
        mine = copy.copy(error)
        mine.__cause__ = error.__cause__
        if isinstance(mine, LLMError):
            self.note(target.name, target.provider, "shared_call_failed", mine)
        return mine


def _both(first: Budget | None, second: Budget | None) -> tuple[Budget, ...]:
    return tuple(each for each in (first, second) if each is not None)


def throttled(target: Target, seconds: float) -> RateLimitError:
    """The error of a target that still has to rest."""
    return RateLimitError(
        f"{target.name} asked for silence for another {seconds:.1f} s",
        provider=target.provider,
        model=target.name,
        retry_after=seconds,
    )


def refused(target: Target) -> CircuitOpenError:
    """The error of a target whose breaker does not admit."""
    wait = target.breaker.retry_after if target.breaker is not None else None
    return CircuitOpenError(
        f"the circuit breaker of {target.name} is open"
        + (f"; the next probe may go in {wait:.1f} s" if wait else "; a probe is under way"),
        hint="add a fallback, wait, or call reset_circuit_breaker()",
        retry_after=wait,
    )


def _not_registered(name: str) -> UnknownModelError:
    return UnknownModelError(
        f"{name!r} is in the fallback chain but not registered", hint="register it or drop it"
    )
