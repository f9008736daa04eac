"""Reuse of responses: the response cache, and shared calls.

After a miss, the first call with a key leads a shared call, and other calls with the same key
follow it (single-flight). `agentkit.engine.shared_call` has the state of a shared call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from agentkit.engine.call import Call, Outcome
from agentkit.engine.effects import Consult, Flow, Launch, Load, Sleep, Store
from agentkit.engine.exchange import Exchange, stopped
from agentkit.engine.shared_call import LED, LIVENESS_CHECK, SharedCall
from agentkit.errors import BudgetExceededError, LLMError, StreamInterruptedError
from agentkit.policy.deadline import share
from agentkit.policy.target import Target
from agentkit.types import Response
from agentkit.types.fleet import Claim

MakeAttempts: TypeAlias = Callable[[Call, Target, Exchange], Flow[Outcome]]
Step: TypeAlias = "Response[Any] | Exception | float | None"
"""What a claim says to do next; see `agentkit.types.fleet.Claim`."""

_MOST = 0.9
"""The part of its own time that a follower may have waited before it counts as used up, too."""


def look_up(call: Call, target: Target, key: str) -> Flow[Response[Any] | None]:
    """Look up the response of `target` in the cache, and report the result to the observer."""
    since = call.rules.now()
    stored: Response[Any] | None = yield Load(key, target.endpoint.durable)
    cached = None if stored is None else call.adopted(stored, "hit")
    call.observer.response_cache(target.name, call.cache, call.rules.now() - since)
    return cached


class Upstream(NamedTuple):
    """The upstream side of a call, which makes the attempts for all that share it."""

    call: Call
    target: Target
    key: str
    exchange: Exchange
    make_attempts: MakeAttempts

    def fetch(self) -> Flow[Outcome]:
        """Make attempts, and store the response in the cache."""
        outcome = yield from self.make_attempts(self.call, self.target, self.exchange)
        if isinstance(outcome, Response):
            yield from Store(self.key, outcome, self.target.endpoint.durable)
        return outcome

    def fetch_in_fleet(self, claim: Claim, step: Step) -> Flow[Outcome]:
        """Get the response from another process of the fleet, or fetch it for all of them.

        `step` is the first one of `claim`, which is closed at the end.
        """
        call = self.call
        published: Outcome | None = None
        try:
            while isinstance(step, float) or (isinstance(step, Exception) and self._is_special()):
                if isinstance(step, Exception):
                    step = 0.0  # what failed there may succeed here
                left = call.time_left()
                if left <= 0:
                    raise call.deadline_error("an identical call has no response yet")
                if step and (yield from Sleep(min(left, step), until=claim.news)):
                    step = claim.step_after_news()
                else:
                    step = claim.step((yield from Consult(claim.question)))
            if isinstance(step, LLMError):
                copied = call.copy_error(self.target, step)
                if isinstance(copied, LLMError):
                    return copied
            if isinstance(step, Response):
                adopted = call.adopted(step, "hit")
                if adopted is not None:
                    yield from self.exchange.deliver(call, adopted)
                    return adopted
            outcome = yield from self.fetch()
            if isinstance(outcome, Response) or not self._is_special():
                published = outcome
            return outcome
        finally:
            claim.close(published)

    def _is_special(self) -> bool:
        """Whether an error may come from limits of this call alone: its budget, retries or time."""
        call = self.call
        ended_early = bool(call.ledger) and call.ledger[-1].outcome == "abandoned"
        return call.retry is not None or bool(call.budgets) or ended_early

    def reuse(self, shared: SharedCall, stored: Response[Any]) -> Flow[bool]:
        """End `shared` with a response that was stored. False: it fails the check of this call."""
        token = LED.set(LED.get() | {shared.key})  # a check of the caller's may make calls
        try:
            adopted = self.call.adopted(stored, "hit")
        finally:
            LED.reset(token)
        if adopted is None:
            return False
        yield from self.exchange.deliver(self.call, adopted)
        shared.finish(adopted, None)
        return True

    def lead(self, shared: SharedCall, step: Step) -> Flow[None]:
        """Fetch the response for all that share it; `step` is the first one of their claim."""
        call, claim = self.call, shared.take_claim()
        try:
            if claim is None:
                outcome = yield from self.fetch()
            else:
                outcome = yield from self.fetch_in_fleet(claim, step)
        except Exception as error:
            shared.finish(None, None if error is call.overdue else error)
        except BaseException:
            shared.finish(None, None)
            raise
        else:
            if isinstance(outcome, Response):
                shared.finish(outcome, None)
            else:
                shared.out_of_time = bool(call.ledger) and call.ledger[-1].outcome == "abandoned"
                shared.finish(None, outcome)


def share_call(upstream: Upstream) -> Flow[Outcome]:
    """Lead or follow the one upstream call that identical requests share."""
    call, exchange = upstream.call, upstream.exchange
    calls, shared_key = call.rules.shared_calls, exchange.prefix + upstream.key
    while True:
        joined = calls.join(shared_key, thread=call.thread, blocking=call.blocking)
        if joined is None:
            return (yield from upstream.fetch())
        shared, leads = joined
        since, patience = call.rules.now(), 0.0
        if leads:
            shared.retry, shared.budgets = call.retry, call.budgets
        else:
            patience = _MOST * share(call.time_left(), None, call.walk.count_ahead() + 1)
        try:
            if leads:
                yield from _start(upstream, shared)
            seen = yield from _follow(call, shared, exchange)
        finally:
            shared.leave()
        if not leads and not seen and not _concerns(call, shared, patient=since + patience):
            continue
        outcome = _outcome_of(call, upstream.target, shared, leads=leads, seen=seen)
        if outcome is not None:
            return outcome


def _start(upstream: Upstream, shared: SharedCall) -> Flow[None]:
    """Lead: find the response in the cache or in the fleet by now, or fetch it.

    It is fetched in place if a sync caller waits for a complete response, else beside the caller,
    who may leave while others still wait for it.
    """
    call, target, exchange = upstream.call, upstream.target, upstream.exchange
    in_place = call.blocking and not exchange.streamed
    into = exchange.into(shared)
    if into is not exchange:
        upstream = upstream._replace(exchange=into)
    step: Step = None
    try:
        stored = yield from Load(upstream.key, target.endpoint.durable)
        if stored is not None and (yield from upstream.reuse(shared, stored)):
            return
        fleet = call.rules.shared_responses
        if fleet is not None and target.endpoint.durable:
            claim = shared.claim = fleet.claim(upstream.key)
            step = claim.step((yield from Consult(claim.question)))
            if isinstance(step, Response):
                if (yield from upstream.reuse(shared, step)):
                    return
                step = None
        if in_place:
            token = LED.set(LED.get() | {shared.key})
            try:
                yield from upstream.lead(shared, step)
            finally:
                LED.reset(token)
        else:
            shared.running = yield from Launch(upstream.lead(shared, step), shared.key)
    except Exception as error:
        shared.finish(None, None if error is call.overdue else error)
    except BaseException:
        shared.finish(None, None)
        raise


def _follow(call: Call, shared: SharedCall, exchange: Exchange) -> Flow[int]:
    """Emit the events of a shared call until it is over. Returns their number."""
    seen = 0
    while True:
        over = shared.over or shared.lost()  # read first: the last events may arrive meanwhile
        while events := shared.take(seen):
            seen += len(events)
            yield from exchange.emit(call, events)
        if over:
            return seen
        left = call.time_left()
        if left <= 0:
            raise call.deadline_error("an identical call has no response yet")
        yield from Sleep(min(left, LIVENESS_CHECK), until=shared.beyond(seen))


def _concerns(call: Call, shared: SharedCall, *, patient: float) -> bool:
    """Whether the error of a shared call, if there is one, also applies to its follower `call`.

    An error that comes from limits of the leader's own is not: its budget, its retry policy, or the
    time it had left, unless the follower has waited as long, until the clock time `patient`.
    """
    error = shared.error
    if error is None or isinstance(error, StreamInterruptedError):
        return True
    if shared.out_of_time and call.rules.now() < patient:
        return False
    if isinstance(error, BudgetExceededError) and shared.budgets != call.budgets:
        return False
    return shared.retry == call.retry


def _outcome_of(
    call: Call, target: Target, shared: SharedCall, *, leads: bool, seen: int
) -> Outcome | None:
    """The outcome of a shared call for this call. None: it was abandoned, so try again."""
    if shared.response is not None:
        return shared.response if leads else call.adopted(shared.response, "shared")
    if shared.error is not None:
        error = shared.error if leads else call.copy_error(target, shared.error)
        if isinstance(error, LLMError):
            return error
        raise error
    if leads:
        raise call.overdue or LLMError(f"the call to {target.name} was cancelled")
    return stopped(target, shared.events[:seen]) if seen else None
