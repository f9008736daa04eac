"""The state of one request: its place on the route, its deadline, its ledger, its errors."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from agentkit.engine.shared_call import SharedCalls
from agentkit.errors import (
    AllModelsFailedError,
    CircuitOpenError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidRequestError,
    LLMError,
    ProviderTimeoutError,
    RateLimitError,
    StructuredOutputError,
    UnknownModelError,
)
from agentkit.policy.budget import Budget, SharedBudgets
from agentkit.policy.classification import Classification, Fallback, Retry, classify
from agentkit.policy.deadline import Deadline
from agentkit.policy.retry import RETRY_AFTER_TIMEOUT_COSTS, RETRY_COSTS, RetryPolicy
from agentkit.policy.route import Missing, Route
from agentkit.policy.target import Target
from agentkit.types import Request, Response
from agentkit.types.fleet import SharedResponses
from agentkit.types.initializer import fast_replace
from agentkit.types.ledger import CacheResult, Entry, Ledger
from agentkit.types.observer import CallObserver, FallbackReason, Observer, RetryReason


class Check(Protocol):
    """Validates responses, and makes a new request after a rejected one."""

    @property
    def retries(self) -> int | None:
        """How often the request is repeated after a rejected response, from the start of its route.

        None: a rejected response is a failed attempt, and retried like one.
        """
        ...

    @property
    def delay(self) -> float:
        """Seconds to wait before the request is repeated."""
        ...

    def accept(self, response: Response[Any]) -> Response[Any]:
        """Return the response with its parsed value, or raise `StructuredOutputError`."""
        ...

    def again(self, asked: Request, rejected: StructuredOutputError) -> Request:
        """Return a new request that names the violations."""
        ...


Outcome: TypeAlias = Response[Any] | LLMError
"""The outcome of a request at one target."""

_with_ledger: Callable[..., Response[Any]] = fast_replace(Response, "ledger")
_with_source: Callable[..., Response[Any]] = fast_replace(Response, "cached", "ledger", "quota")

_NO_BUDGETS: tuple[Budget, ...] = ()

_OUTAGES: frozenset[FallbackReason] = frozenset(
    {"circuit_open", "rate_limited", "retries_exhausted", "timeout"}
)
"""Reasons to leave a target that do not depend on the request."""


def _no_key(_request: Request, _target: Target) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that all calls of a manager share."""

    observer: Observer
    shared_calls: SharedCalls
    now: Callable[[], float] = time.monotonic
    rng: Callable[[], float] = random.random
    key: Callable[[Request, Target], str | None] = _no_key
    """The key in the response cache, or None if the request has none."""
    caching: bool = False
    shared_responses: SharedResponses | None = None
    """The responses that a fleet shares; None: there is no fleet."""
    fallback_on_invalid: bool = False
    fallback_on_content_filter: bool = False
    attempt_middleware: tuple[Any, ...] = ()
    budget: Budget | None = None
    shared_budgets: SharedBudgets | None = None
    """The budgets that a fleet shares; None: there is no fleet."""


class Call:
    """One request: its state, and the decisions that depend on it.

    Its `walk` decides which target is next (see `agentkit.policy.route`), and
    `agentkit.policy.classification` decides what an error means.
    """

    __slots__ = (
        "_left",
        "asked",
        "began",
        "blocking",
        "budgets",
        "cache",
        "causes",
        "check",
        "deadline",
        "ledger",
        "observer",
        "overdue",
        "request",
        "retry",
        "rules",
        "sent",
        "thread",
        "walk",
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
        self.asked = request
        """The request of the caller."""
        self.request = request
        """The request to send: `asked`, or the one that the check made after a rejection."""
        self.retry = retry
        self.budgets = _both(rules.budget, budget) if rules.budget or budget else _NO_BUDGETS
        self.walk = route.walk(retry)
        self.began = rules.now()
        self.deadline = Deadline(deadline, self.began)
        self.thread = thread
        self.blocking = blocking
        self.check = check
        self.ledger = Ledger()
        self.observer: CallObserver = rules.observer.begin(request, route.names)
        self.causes: dict[str, Exception] = {}
        """The error for which each target was left, by name."""
        self.overdue: DeadlineExceededError | None = None
        self.cache: CacheResult = "off"
        self.sent = 0
        self._left: tuple[str, FallbackReason] | None = None
        """The target that was left last, and the reason."""

    def restart(self, request: Request) -> None:
        """Continue with `request`, from the start of the route if a target was tried before."""
        if self.sent or self.causes:
            self.walk = self.walk.route.walk(self.retry)
            self.causes.clear()
            self._left = None
        self.asked = self.request = request

    def time_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline.at - self.rules.now()

    def next_target(self) -> Target | None:
        """The next target that can handle the request, or None at the end of the route.

        Targets that cannot handle it are recorded as skips.

        Raises:
            DeadlineExceededError: no time is left.
        """
        while (stop := self.walk.next_stop()) is not None:
            if isinstance(stop, Missing):
                self._skip(stop.name, "custom", "not_registered", _not_registered(stop.name))
                continue
            if self.request.tools and "tools" not in stop.endpoint.capabilities:
                error = ConfigurationError(
                    f"{stop.name} cannot use tools", hint="register it with a provider object"
                )
                self._skip(stop.name, stop.provider, "incapable", error)
                continue
            if self._left is not None and self.time_left() <= 0:
                raise self.deadline_error("the deadline has passed")
            if self._left is not None and self._left[0] != stop.name:
                self.observer.fallback(self._left[0], stop.name, self._left[1])
            return stop
        return None

    def leave_or_raise(self, target: Target, error: LLMError) -> None:
        """Leave `target` because of `error`, or raise `error` if it ends the request."""
        classification = classify(error, target.retry_on)
        fallback = classification.fallback_under(
            on_invalid=self.rules.fallback_on_invalid,
            on_content_filter=self.rules.fallback_on_content_filter,
        )
        if fallback is Fallback.NEVER:
            if not self._is_about_the_fallback(error):
                raise error
            fallback = Fallback.NEXT
        opened = isinstance(error, CircuitOpenError)
        self.leave(target, error, "circuit_open" if opened else classification.reason, fallback)

    def _is_about_the_fallback(self, error: LLMError) -> bool:
        """Whether a fallback alone may reject the request, as its parameters were for the primary.

        Raising that error would hide the outage of the primary. In the rounds order all targets
        get the same request.
        """
        return (
            isinstance(error, InvalidRequestError)
            and self.walk.route.order == "sequential"
            and self._left is not None
            and self._left[1] in _OUTAGES
        )

    def leave(
        self,
        target: Target,
        error: Exception,
        reason: FallbackReason,
        fallback: Fallback = Fallback.NEXT,
    ) -> None:
        """Leave `target` because of `error`. `reason` is reported with the next fallback."""
        self._keep_cause(target.name, error)
        self._left = (target.name, reason)
        self.walk.leave(fallback)

    def _skip(self, model: str, provider: str, reason: str, error: LLMError) -> None:
        """Leave a target that cannot handle the request."""
        self.record_skip(model, provider, reason, error)
        self._keep_cause(model, error)
        self._left = (model, "skipped")
        self.walk.leave()

    def _keep_cause(self, model: str, error: Exception) -> None:
        self.causes[model] = error
        if isinstance(error, LLMError) and error.model is None:
            error.model = model

    def record_skip(
        self,
        model: str,
        provider: str,
        reason: str,
        error: LLMError | None = None,
        *,
        breaker: str = "closed",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Record the reason why nothing is sent to `model`."""
        entry = Entry(
            model,
            provider,
            "skipped",
            started=self.rules.now() - self.began,
            error=None if error is None else type(error).__name__,
            error_type=None if error is None else error.error_type,
            reason=reason,
            breaker=breaker,
            cache=self.cache,
            position=self.walk.position,
            details=details,
        )
        self.ledger.record(entry)
        self.observer.skipped(entry)

    def cache_key(self, target: Target) -> str | None:
        """The key of this request to `target` in the response cache. None: do not use the cache."""
        rules = self.rules
        if not rules.caching:
            return None
        key = rules.key(self.asked, target) if self.asked.use_cache else None
        self.cache = self.ledger.cache = "miss" if key else "bypass"
        if key is None:
            self.observer.response_cache(target.name, "bypass", 0.0)
        return key

    def initial_delay(self, target: Target) -> float | RateLimitError:
        """Seconds to wait before the first attempt at `target`, usually 0.

        If `target` is rate limited and waiting is not worth it, the error is returned instead.
        """
        if target.rate_limited_until < 0.0 and not self.walk.returns:
            return 0.0
        now = self.rules.now()
        delay = self.walk.not_before() - now
        limited = target.rate_limited_until - now
        if limited <= 0.0:
            return max(delay, 0.0)
        fits = limited <= self.walk.policy(target).max_retry_after and limited < self.time_left()
        if fits and all(other.rate_limited_for(now) > 0 for other in self.walk.ahead()):
            return max(delay, limited)
        error = RateLimitError(
            f"{target.name} is rate limited for another {limited:.1f} s",
            provider=target.provider,
            model=target.name,
            retry_after=limited,
        )
        self.record_skip(target.name, target.provider, "resting", error)
        return error

    def retry_delay(
        self, target: Target, number: int, error: LLMError, classification: Classification
    ) -> float | None:
        """Seconds until `target` is tried again after attempt `number`. None: do not retry.

        Raises:
            DeadlineExceededError: the delay exceeds the deadline, and no other target is left.
        """
        kind = classification.retry
        if kind is Retry.NEVER or not self.walk.may_repeat():
            return None
        if kind is Retry.IMMEDIATELY:
            self.observer.retry(
                target.name, target.provider, number + 1, delay=0.0, error=error, reason="next_key"
            )
            return 0.0
        another = self.walk.another_left(self.rules.now())
        if kind is Retry.IF_LAST_TARGET and another:
            return None
        if target.breaker is not None and not target.breaker.would_admit():
            return None
        if isinstance(error, StructuredOutputError):
            return 0.0
        after = error.retry_after
        delay = self.walk.policy(target).delay(number, after, self.rules.rng)
        if delay is None:
            return None
        left = self.time_left()
        if delay >= left:
            if another:
                return None
            raise self.deadline_error(
                f"the next attempt would wait {delay:.1f} s, but {max(left, 0):.1f} s are left"
            ) from error
        timed_out = isinstance(error, ProviderTimeoutError)
        cost = RETRY_AFTER_TIMEOUT_COSTS if timed_out else RETRY_COSTS
        if target.budget is not None and not target.budget.spend(cost):
            self.record_skip(target.name, target.provider, "retry_budget_exhausted")
            return None
        reason: RetryReason = "backoff" if after is None else "retry_after"
        self.observer.retry(
            target.name, target.provider, number + 1, delay=delay, error=error, reason=reason
        )
        return delay

    def deadline_error(self, why: str) -> DeadlineExceededError:
        """The error of a request whose time is up."""
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
        """The error of a request for which no target answered."""
        causes = list(self.causes.values())
        if len(self.walk.route.stops) == 1 and causes:
            return causes[0]
        count = len(causes)
        waits = [wait for cause in causes if (wait := getattr(cause, "retry_after", None))]
        return AllModelsFailedError(
            f"all {count} models failed" if count != 1 else "the only model tried failed",
            causes or [ConfigurationError("the route is empty")],
            hint="see .ledger.explain() for every attempt, and .exceptions for each model's cause",
            retry_after=min(waits, default=None),
        )

    def checked(self, response: Response[Any]) -> Response[Any]:
        """Check the response of an attempt. Raises `StructuredOutputError`."""
        if self.check is None or self.check.retries is not None:
            return response
        return self.check.accept(response)

    def owned(self, response: Response[Any]) -> Response[Any]:
        """`response` with the ledger of this call."""
        if response.ledger is self.ledger:
            return response
        return _with_ledger(response, self.ledger)

    def adopted(self, response: Response[Any], result: CacheResult) -> Response[Any] | None:
        """A copy of another call's response for this call, or None if it fails the check.

        The key covers the schema but not validators, so that types with the same schema may differ.
        """
        own = _with_source(response, result == "hit", self.ledger, None)
        if self.check is not None:
            try:
                own = self.owned(self.checked(own))
            except StructuredOutputError:
                return None
        self.cache = self.ledger.cache = result
        self.ledger.answered_by = response.model
        return own

    def copy_error(self, target: Target, error: Exception) -> Exception:
        """Copy the `error` of a shared call, and record it as the reason to skip `target`."""
        copied = _copy(error)
        if isinstance(copied, LLMError):
            self.record_skip(target.name, target.provider, "shared_call_failed", copied)
        return copied


def _copy(error: Exception) -> Exception:
    """Copy `error` without its traceback, even if its constructor has other parameters."""
    try:
        copied = copy.copy(error)
    except Exception:
        copied = type(error).__new__(type(error), *error.args)
        copied.__dict__.update(error.__dict__)
    copied.__cause__ = error.__cause__
    return copied


def _both(first: Budget | None, second: Budget | None) -> tuple[Budget, ...]:
    if first is second:
        second = None
    return tuple(each for each in (first, second) if each is not None)


def _not_registered(name: str) -> UnknownModelError:
    return UnknownModelError(
        f"{name!r} is in the fallback chain but not registered", hint="register it or remove it"
    )
