"""One attempt at one target: admitted, sent, and settled exactly once."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from agentkit.engine.call import Call, refused
from agentkit.engine.effects import Flow, Sleep, TimedOut
from agentkit.errors import (
    LLMError,
    PoolExhaustedError,
    ProviderTimeoutError,
    RateLimitError,
)
from agentkit.ledger import Entry, Outcome
from agentkit.policy.deadline import DEFAULT_PATIENCE, share
from agentkit.policy.limits import Slot
from agentkit.policy.routing import Target
from agentkit.policy.verdict import Blame, Verdict, judge
from agentkit.types import Response

if TYPE_CHECKING:
    from agentkit.policy.breaker import Permit

log = logging.getLogger("agentkit.engine")

_LEASE_MARGIN = 5.0
"""Seconds past its time limit after which a probe counts as lost."""


class Failure(NamedTuple):
    """A settled attempt that did not bring an answer."""

    error: LLMError
    verdict: Verdict
    number: int


class Attempt:
    """Holds a permit, perhaps a slot, and the observer; gives all of them back at settlement."""

    __slots__ = (
        "_settled",
        "allotted",
        "call",
        "delay",
        "first_token",
        "limit",
        "number",
        "permit",
        "position",
        "slot",
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
        slot: Slot | None,
        delay: float,
        waited: float,
        limit: float | None,
    ) -> None:
        rules = call.rules
        self.call, self.target, self.permit, self.slot = call, target, permit, slot
        self.delay, self.waited, self.limit = delay, waited, limit
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

    def succeed(self, response: Response[Any]) -> Response[Any]:
        """The answer is complete."""
        call, target = self.call, self.target
        duration = call.rules.clock() - self.started
        if self.permit is not None:
            self.permit.succeeded(duration)
        if self.number == 1 and target.budget is not None:
            target.budget.earn()
        call.ledger.answered_by = target.name
        self._settle("success", duration, response=response)
        return response

    def reached_content(self) -> None:
        """A stream's first content is here: a probe has shown what it had to show."""
        self.first_token = self.call.rules.clock() - self.started
        self.watch.first_token(self.first_token)
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
        error = target.endpoint.translate(exc)
        verdict = judge(error, target.retry_on)
        if isinstance(error, RateLimitError) and error.retry_after is not None:
            target.resting_until = max(target.resting_until, call.rules.clock() + error.retry_after)
        if verdict.log_traceback:
            log.error("%s raised %s", target.name, type(exc).__name__, exc_info=exc)
        self._tell(verdict.blame, error, duration)
        self._settle("failure", duration, error=error)
        return Failure(error, verdict, self.number)

    def reject(self, error: LLMError, response: Response[Any]) -> Failure:
        """The answer came but did not pass the check: no fault of the target."""
        duration = self.call.rules.clock() - self.started
        if self.permit is not None:
            self.permit.neutral()
        self._settle("failure", duration, response=response, error=error)
        return Failure(error, judge(error, None), self.number)

    def abandon(self, reason: str) -> None:
        """Let go of it: cancelled, closed early, or out of time through no fault of the target."""
        if self._settled:
            return
        if self.permit is not None:
            self.permit.abandoned()
        duration = self.call.rules.clock() - self.started
        self._settle("abandoned", duration, reason=reason)

    def _cut(self, duration: float, exc: TimedOut) -> Failure:
        target = self.target
        error = ProviderTimeoutError(
            f"{target.name} gave no answer within {self.allotted:.3g} s",
            provider=target.provider,
            model=target.name,
            hint="raise timeout= or first_token_timeout= of the model if this is its usual pace",
        )
        error.__cause__ = exc.__cause__
        verdict = judge(error)
        if self.allotted >= (DEFAULT_PATIENCE if self.limit is None else self.limit):
            self._tell(Blame.FAILURE, error, duration)
            self._settle("failure", duration, error=error)
        else:
            if self.permit is not None:
                self.permit.abandoned()
            reason = "deadline" if self.whole else "time_share"
            self._settle("abandoned", duration, error=error, reason=reason)
        if self.whole:
            self.call.causes[target.name] = error
            raise self.call.overrun(f"{target.name} was cut after {duration:.1f} s") from error
        return Failure(error, verdict, self.number)

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
        if self.slot is not None:
            self.slot.release()
        call, target = self.call, self.target
        usage = response.usage if response is not None else None
        status = getattr(error, "status", None)
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
        )
        call.ledger.record(entry)
        self.watch.end(entry, response, error)
        if outcome != "failure" and self.state == "closed":
            return
        state = target.breaker_state
        if state != self.state:
            call.observer.breaker_moved(target.name, target.provider, self.state, state)


def begin(call: Call, target: Target, delay: float, limit: float | None) -> Flow[Attempt]:
    """Wait for a slot, ask the breaker, and start the clock.

    Raises:
        CircuitOpenError: the breaker refuses. PoolExhaustedError: no slot came free within this
            target's part of the time. DeadlineExceededError: nor within the deadline.
    """
    slot: Slot | None = None
    waited = 0.0
    if target.limit is not None:
        slot = target.limit.request()
        if not slot.granted:
            waited = yield from _queue(call, target, slot)
    permit = None
    if target.breaker is not None:
        permit = target.breaker.admit(lease=None if limit is None else limit + _LEASE_MARGIN)
        if permit is None:
            if slot is not None:
                slot.release()
            raise refused(target)
    return Attempt(call, target, permit, slot, delay, waited, limit)


def _queue(call: Call, target: Target, slot: Slot) -> Flow[float]:
    since = call.rules.clock()
    patience, ahead = max(call.left(), 0.0), call.itinerary.count_ahead()
    if ahead:
        patience = min(share(patience, None, ahead + 1), DEFAULT_PATIENCE)
    try:
        yield from Sleep(patience, until=slot)
    except BaseException:
        slot.release()
        raise
    waited = call.rules.clock() - since
    call.ledger.waited += waited
    call.observer.waited(target.name, waited, slot.granted)
    if not slot.granted:
        slot.release()
        if call.left() <= 0 or not ahead:
            raise call.overrun(f"no slot of {target.name} came free")
        full = PoolExhaustedError(
            f"no slot of {target.name} came free within {waited:.1f} s",
            hint="raise max_concurrency= of the model",
        )
        call.note(target.name, target.provider, "no_slot", full, target.breaker_state)
        raise full
    return waited


def complete(call: Call, response: Response[Any]) -> Response[Any]:
    """`response` after the call's own check. Raises `StructuredOutputError`."""
    return response if call.check is None else call.check.accept(response)


def owned(call: Call, response: Response[Any]) -> Response[Any]:
    """`response` with this call's ledger, whoever made it."""
    return response if response.ledger is call.ledger else replace(response, ledger=call.ledger)
