"""One attempt at one target: admitted, sent, and settled exactly once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from agentkit.engine.call import Call, refused
from agentkit.engine.effects import Flow, TimedOut
from agentkit.engine.quota import acquire
from agentkit.errors import (
    InvalidResponseError,
    LLMError,
    ProviderTimeoutError,
    RateLimitError,
)
from agentkit.policy.budget import Spending
from agentkit.policy.classification import Blame, Classification, Retry, classify
from agentkit.policy.deadline import DEFAULT_PATIENCE, share
from agentkit.policy.limits.estimate import estimate
from agentkit.policy.limits.pool import Lease
from agentkit.policy.route import Target
from agentkit.types import Request, Response, Usage
from agentkit.types.ledger import Entry, Outcome

if TYPE_CHECKING:
    from agentkit.policy.breaker import Permit

log = logging.getLogger("agentkit.engine")

_LEASE_MARGIN = 5.0
"""Seconds past its time limit after which a probe counts as lost."""


class Failure(NamedTuple):
    """A settled attempt that did not bring an answer."""

    error: LLMError
    classification: Classification
    number: int


class Attempt:
    """Holds a permit, perhaps a lease, and the observer; gives all of them back at settlement."""

    __slots__ = (
        "_settled",
        "allotted",
        "call",
        "delay",
        "endpoint",
        "first_token",
        "lease",
        "limit",
        "number",
        "permit",
        "position",
        "spendings",
        "started",
        "state",
        "target",
        "waited",
        "watch",
        "whole",
    )

    def __init__(
        self,
        call: Call,
        target: Target,
        permit: Permit | None,
        lease: Lease | None,
        delay: float,
        waited: float,
        limit: float | None,
        spendings: tuple[Spending, ...],
    ) -> None:
        rules = call.rules
        self.call, self.target, self.permit, self.lease = call, target, permit, lease
        own = None if lease is None else lease.endpoint
        self.endpoint = target.endpoint if own is None else own
        self.delay, self.waited, self.limit = delay, waited, limit
        self.spendings = spendings
        self.number = call.itinerary.count()
        self.position = call.itinerary.position
        self.state = "closed" if permit is None else permit.state
        self.first_token: float | None = None
        self._settled = False
        call.sent += 1
        self.watch = call.observer.attempt(
            target.name, target.provider, self.number, self.position, call.request
        )
        self.started = rules.clock()
        left = call.deadline.at - self.started
        if limit is None:
            self.allotted = share(left, None, call.itinerary.count_ahead() + 1)
        else:
            self.allotted = share(left, limit, 1)
        self.whole = self.allotted >= left

    def addressed(self, request: Request) -> Request:
        """`request` as the endpoint of this attempt needs it."""
        endpoint = self.endpoint
        if request.response_format is not None and endpoint.worded is not None:
            request = endpoint.worded(request)
        return replace(request, timeout=self.allotted) if endpoint.timed else request

    def succeed(self, response: Response[Any]) -> Response[Any]:
        """The answer is complete."""
        call, target = self.call, self.target
        duration = call.rules.clock() - self.started
        if self.permit is not None:
            self.permit.succeeded(duration)
        if self.number == 1 and target.budget is not None:
            target.budget.earn()
        self._tell_key(response)
        call.ledger.answered_by = target.name
        self._settle("success", duration, response=response)
        return response

    def reached_content(self) -> None:
        """A stream's first content is here: a probe has shown what it had to show."""
        self.first_token = self.call.rules.clock() - self.started
        breaker = self.target.breaker
        if self.permit is not None and breaker is not None and self.permit.probe:
            self.permit.succeeded(self.first_token)
            self.permit = breaker.admit()

    def fail(self, exc: Exception) -> Failure:
        """Something was raised: translate it, judge it, tell the breaker."""
        call, target = self.call, self.target
        duration = call.rules.clock() - self.started
        if isinstance(exc, TimedOut):
            return self._cut(duration, exc)
        error = self.endpoint.translate(exc)
        classification = classify(error, target.retry_on)
        if self.lease is not None:
            classification = self.lease.failed(error, classification, call.rules.clock())
        silence = error.retry_after if isinstance(error, RateLimitError) else None
        if silence is not None and classification.retry is not Retry.IMMEDIATELY:
            target.resting_until = max(target.resting_until, call.rules.clock() + silence)
        if classification.log_traceback:
            log.error("%s raised %s", target.name, type(exc).__name__, exc_info=exc)
        self._tell(classification.blame, error, duration)
        self._settle("failure", duration, error=error)
        return Failure(error, classification, self.number)

    def reject(self, error: LLMError, response: Response[Any]) -> Failure:
        """The answer came but did not pass the check: no fault of the target."""
        duration = self.call.rules.clock() - self.started
        if self.permit is not None:
            self.permit.neutral()
        self._tell_key(response)
        self._settle("failure", duration, response=response, error=error)
        return Failure(error, classify(error, None), self.number)

    def shown(self, exc: Exception) -> Exception:
        """`exc` as middleware sees it: an error of our tree."""
        return self._silence(exc) if isinstance(exc, TimedOut) else self.endpoint.translate(exc)

    def abandon(self, reason: str) -> None:
        """Let go of it: cancelled, closed early, or out of time through no fault of the target."""
        if self._settled:
            return
        if self.permit is not None:
            self.permit.abandoned()
        duration = self.call.rules.clock() - self.started
        self._settle("abandoned", duration, reason=reason)

    def _silence(self, exc: TimedOut) -> ProviderTimeoutError:
        target = self.target
        error = ProviderTimeoutError(
            f"{target.name} gave no answer within {self.allotted:.3g} s",
            provider=target.provider,
            model=target.name,
            hint="raise timeout= or first_token_timeout= of the model if this is its usual pace",
        )
        error.__cause__ = exc.__cause__
        return error

    def _cut(self, duration: float, exc: TimedOut) -> Failure:
        target = self.target
        error = self._silence(exc)
        classification = classify(error)
        if self.allotted >= (DEFAULT_PATIENCE if self.limit is None else self.limit):
            self._tell(Blame.FAILURE, error, duration)
            if self.lease is not None:
                self.lease.failed(error, classification, self.started + duration)
            self._settle("failure", duration, error=error)
        else:
            if self.permit is not None:
                self.permit.abandoned()
            reason = "deadline" if self.whole else "time_share"
            self._settle("abandoned", duration, error=error, reason=reason)
        if self.whole:
            self.call.causes[target.name] = error
            raise self.call.overrun(f"{target.name} was cut after {duration:.1f} s") from error
        return Failure(error, classification, self.number)

    def _tell_key(self, response: Response[Any]) -> None:
        if self.lease is not None:
            self.lease.succeeded()
            self.lease.learn(response.quota)

    def _tell(self, blame: Blame, error: Exception, duration: float) -> None:
        if self.permit is None:
            return
        if blame is Blame.NEUTRAL:
            self.permit.neutral()
        else:
            counts = blame is Blame.FAILURE
            self.permit.failed(error, counts_for_rate=counts, duration=duration)

    def _settle(
        self,
        outcome: Outcome,
        duration: float,
        *,
        response: Response[Any] | None = None,
        error: LLMError | None = None,
        reason: str | None = None,
    ) -> None:
        self._settled = True
        call, target = self.call, self.target
        usage = response.usage if response is not None else None
        if self.lease is not None:
            self.lease.release(call.rules.clock(), _taken(outcome, usage, error))
        if self.spendings:
            for budget, spending in zip(call.budgets, self.spendings, strict=True):
                budget.settle(spending, _taken(outcome, usage, error))
        status = getattr(error, "status", None)
        source = error if response is None else response
        entry = Entry(
            target.name,
            target.provider,
            outcome,
            self.number,
            self.started - call.began,
            duration,
            self.delay,
            self.waited,
            None if error is None else type(error).__name__,
            None if error is None else str(status) if status else error.error_type,
            status,
            reason,
            self.state,
            call.cache,
            0 if usage is None else usage.input_tokens,
            0 if usage is None else usage.output_tokens,
            self.position,
            self.first_token,
            () if response is None else response.omitted,
            None if source is None else source.details,
        )
        call.ledger.record(entry)
        self.watch.end(entry, response, error)
        if outcome != "failure" and self.state == "closed":
            return
        state = target.breaker_state
        if state != self.state:
            call.observer.breaker_moved(target.name, target.provider, self.state, state)


def begin(call: Call, target: Target, delay: float, limit: float | None) -> Flow[Attempt]:
    """Set the budget aside, wait for a lease, ask the breaker, and start the clock.

    Raises:
        BudgetExceededError: the request does not fit into a budget.
        CircuitOpenError: the breaker refuses. PoolExhaustedError: no lease came free within this
            target's part of the time. DeadlineExceededError: nor within the deadline.
    """
    spendings = afford(call, target) if call.budgets else ()
    lease: Lease | None = None
    waited = 0.0
    if target.pool is not None:
        waited = call.ledger.waited
        try:
            lease = yield from acquire(call, target, target.pool)
        except BaseException:
            give_back(call, spendings)
            raise
        waited = call.ledger.waited - waited
    permit = None
    if target.breaker is not None:
        permit = target.breaker.admit(lease=None if limit is None else limit + _LEASE_MARGIN)
        if permit is None:
            if lease is not None:
                lease.release(call.rules.clock(), sent=False)
            give_back(call, spendings)
            raise refused(target)
    return Attempt(call, target, permit, lease, delay, waited, limit, spendings)


def afford(call: Call, target: Target) -> tuple[Spending, ...]:
    """What is set aside of each budget of `call`, or of none.

    Raises:
        BudgetExceededError: it does not fit. ConfigurationError: the model has no price.
    """
    need = estimate(call.request)
    spendings: list[Spending] = []
    for budget in call.budgets:
        try:
            spendings.append(budget.reserve(need, target.price, target.name))
        except LLMError as refusal:
            give_back(call, spendings)
            call.note(target.name, target.provider, "budget", refusal, target.breaker_state)
            raise
    return tuple(spendings)


def give_back(call: Call, spendings: Sequence[Spending]) -> None:
    """Nothing was sent: the budgets get back what was set aside."""
    for budget, spending in zip(call.budgets, spendings, strict=False):
        budget.settle(spending, Usage())


def _taken(outcome: Outcome, usage: Usage | None, error: LLMError | None) -> Usage | None:
    """What an attempt took of its key's quota; None where only the estimate is known."""
    if usage is not None and usage.total_tokens > 0:
        return usage
    unknown = error is None or isinstance(error, ProviderTimeoutError | InvalidResponseError)
    return None if unknown or outcome != "failure" else Usage()


def complete(call: Call, response: Response[Any]) -> Response[Any]:
    """`response` after the call's own check. Raises `StructuredOutputError`."""
    return response if call.check is None else call.check.accept(response)


def owned(call: Call, response: Response[Any]) -> Response[Any]:
    """`response` with this call's ledger, whoever made it."""
    return response if response.ledger is call.ledger else replace(response, ledger=call.ledger)
