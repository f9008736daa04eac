"""One attempt at one target: admitted, sent, and settled exactly once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from agentkit.engine.bill import NOTHING, make_bill, reported_usage
from agentkit.engine.call import Call
from agentkit.engine.effects import Consult, Flow, Prepare, TimedOut
from agentkit.engine.quota import acquire_lease, circuit_open
from agentkit.engine.reservation import give_back, reserve_budgets
from agentkit.errors import (
    LLMError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
)
from agentkit.policy.breaker import CircuitBreaker, Permit
from agentkit.policy.budget import Spending
from agentkit.policy.classification import Blame, Classification, Retry, classify
from agentkit.policy.deadline import DEFAULT_PATIENCE, share
from agentkit.policy.limits import Lease
from agentkit.policy.target import EndpointSource, SharedCircuit, Target
from agentkit.types import Request, Response, ResponseBuilder, Usage
from agentkit.types.initializer import fast_replace
from agentkit.types.ledger import Entry, Outcome

log = logging.getLogger("agentkit.engine")

_with_timeout = fast_replace(Request, "timeout")

_LEASE_MARGIN = 5.0
"""Seconds after its time limit when a probe counts as lost."""


class Failure(NamedTuple):
    """A settled attempt that failed."""

    error: LLMError
    classification: Classification
    number: int


class Attempt:
    """One attempt, with its permit, its lease and its reserved budget, until it is settled."""

    __slots__ = (
        "allotted",
        "call",
        "client",
        "delay",
        "endpoint",
        "first_token",
        "freed",
        "has_all_time",
        "has_passed",
        "lease",
        "limit",
        "number",
        "permit",
        "position",
        "presented",
        "raised",
        "received",
        "settled",
        "spendings",
        "started",
        "state",
        "target",
        "waited",
        "watch",
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
        self.call, self.target, self.permit, self.lease = call, target, permit, lease
        self.client = _client_of(target, lease) if target.clients else None
        if self.client is None:
            self.endpoint = target.endpoint
        else:
            self.endpoint = self.client.take(call.rules.now())
        self.delay, self.waited, self.limit = delay, waited, limit
        self.spendings = spendings
        self.number = call.walk.count_attempt()
        self.position = call.walk.position
        self.state = "closed" if permit is None else permit.state
        self.first_token: float | None = None
        """Seconds to the first content of a stream; None before it, and for a complete response."""
        self.raised: Exception | None = None
        """The exception that the exchange raised."""
        self.presented: Exception | None = None
        """The same exception, as middleware sees it."""
        self.received: ResponseBuilder | None = None
        """What arrived of a stream so far."""
        self.has_passed = False
        """Whether it was a probe that counted as a success at its first content."""
        self.settled = False
        self.freed = False
        """Whether all that it held is given back."""
        call.sent += 1
        self.watch = call.observer.attempt(  # positional: by keyword, it takes twice as long
            target.name,
            target.provider,
            self.number,
            self.position,
            target.adapt(call.request) if target.params else call.request,
            self.endpoint.model_id,
        )
        self.started = call.rules.now()
        left = call.deadline.at - self.started
        if limit is None:
            self.allotted = share(left, None, call.walk.count_ahead() + 1)
        else:
            self.allotted = share(left, limit, 1)
        self.has_all_time = self.allotted >= left
        """Whether only the deadline of the request limits it."""

    def time_left(self) -> float:
        """Seconds until its time limit."""
        return self.started + self.allotted - self.call.rules.now()

    def longest_wait(self) -> float:
        """Seconds that it may wait for a worker thread: its share of the time left."""
        return share(max(self.call.time_left(), 0.0), None, self.call.walk.count_ahead() + 1)

    def begin_after(self, seconds: float) -> float:
        """Start its clock: it waited `seconds` for a worker thread.

        Returns the seconds from then to the deadline of the request.
        """
        self.started += seconds
        self.waited += seconds
        self.call.ledger.waited += seconds
        left = self.call.deadline.at - self.started
        self.allotted = min(self.allotted, left)
        self.has_all_time = self.allotted >= left
        return left

    def addressed(self, request: Request, silence: float) -> Request:
        """`request` in the form that the endpoint of this attempt needs.

        `silence` is the time limit of its sockets, in seconds.
        """
        endpoint = self.endpoint
        if self.target.params:
            request = self.target.adapt(request)
        if request.response_format is not None and endpoint.with_json_instruction is not None:
            request = endpoint.with_json_instruction(request)
        return _with_timeout(request, silence) if endpoint.timed else request

    def present(self, exc: Exception) -> Exception:
        """`exc` as an error of agentkit, for middleware."""
        return self._timeout_error(exc) if isinstance(exc, TimedOut) else self._translated(exc)

    def reached_content(self) -> None:
        """Note the first content of a stream. For a probe of the breaker it is a success."""
        self.first_token = self.call.rules.now() - self.started
        breaker = self.target.breaker
        if self.permit is not None and breaker is not None and self.permit.probe:
            self.permit.succeeded(self.first_token)
            self.permit = breaker.admit()
            self.has_passed = True

    def succeed(self, response: Response[Any]) -> Response[Any]:
        """Settle with a complete response."""
        call, target = self.call, self.target
        duration = call.rules.now() - self.started
        if self.permit is not None and self.has_passed:
            self.permit.neutral()
        elif self.permit is not None:
            self.permit.succeeded(duration)
        if self.number == 1 and target.budget is not None:
            target.budget.earn()
        if self.lease is not None:
            self._report_quota(self.lease, response)
        call.ledger.answered_by = target.name
        self._settle("success", duration, response=response)
        return response

    def reject(self, error: LLMError, response: Response[Any]) -> Failure:
        """Settle with a response that failed the check, which is not a failure of the target."""
        duration = self.call.rules.now() - self.started
        if self.permit is not None:
            self.permit.neutral()
        if self.lease is not None:
            self._report_quota(self.lease, response)
        self._settle("failure", duration, response=response, error=error)
        return Failure(error, classify(error, None), self.number)

    def fail(self, exc: Exception) -> Failure:
        """Settle with an exception: translate it, classify it, report it to the breaker.

        Raises:
            DeadlineExceededError: the deadline of the request ended the attempt.
        """
        call, target = self.call, self.target
        if isinstance(exc, TimedOut):
            return self._time_out(exc)
        duration = call.rules.now() - self.started
        error = self._translated(exc)
        classification = classify(error, target.retry_on)
        if isinstance(error, ProviderTimeoutError) and self._is_own_limit(duration):
            return self._time_out(TimedOut(), error)
        if self.lease is not None:
            classification = self.lease.failed(error, classification, call.rules.now())
        after = error.retry_after if isinstance(error, RateLimitError) else None
        if after is not None and classification.retry is not Retry.IMMEDIATELY:
            target.pause(after, call.rules.now())
            if target.report_pause is not None:
                target.report_pause(after)
            if self.delay:  # waiting for the previous Retry-After did not help
                classification = classification._replace(blame=Blame.CONSECUTIVE)
        if classification.log_traceback:
            log.error("%s raised %s", target.name, type(exc).__name__, exc_info=exc)
        self._report_failure(classification.blame, error, duration)
        self._settle("failure", duration, error=error)
        return Failure(error, classification, self.number)

    def _is_own_limit(self, duration: float) -> bool:
        """Whether the endpoint's sockets timed out at the time limit of this attempt."""
        return self.endpoint.timed and self.first_token is None and duration >= self.allotted

    def _translated(self, exc: Exception) -> LLMError:
        """`exc` as an error of agentkit, even if the endpoint's own translation raises."""
        try:
            return self.endpoint.translate(exc)
        except Exception:
            log.exception("translate() of %s raised an exception", self.target.name)
            error = ProviderError(
                f"{self.target.name} raised {type(exc).__name__}",
                provider=self.target.provider,
                model=self.target.name,
            )
            error.__cause__ = exc
            return error

    def abandon(self, reason: str) -> None:
        """Settle without an outcome: cancelled, closed early, or out of time. At most once."""
        if self.settled:
            self._free(None, None)
            return
        if self.permit is not None:
            self.permit.abandoned()
        duration = self.call.rules.now() - self.started
        self._settle("abandoned", duration, reason=reason)

    def _time_out(self, exc: TimedOut, error: ProviderTimeoutError | None = None) -> Failure:
        """Settle an attempt whose time is up, with the endpoint's own `error` if there is one."""
        if self.first_token is not None:
            if self.call.time_left() > 0:
                return self.fail(self._stall_error())
            self.abandon("deadline")
            raise self.call.deadline_error(f"the stream of {self.target.name} had not ended")
        target, duration = self.target, self.call.rules.now() - self.started
        error = error or self._timeout_error(exc)
        classification = classify(error)
        limited_by = "deadline" if self.has_all_time else "time_share"
        if self.allotted >= (DEFAULT_PATIENCE if self.limit is None else self.limit):
            self._report_failure(Blame.FAILURE, error, duration)
            if self.lease is not None:
                self.lease.failed(error, classification, self.started + duration)
            reason = limited_by if self.limit is None else None
            self._settle("failure", duration, error=error, reason=reason)
        else:
            if self.permit is not None:
                self.permit.abandoned()
            self._settle("abandoned", duration, error=error, reason=limited_by)
        if self.has_all_time:
            self.call.causes[target.name] = error
            why = f"{target.name} timed out after {duration:.1f} s"
            raise self.call.deadline_error(why) from error
        return Failure(error, classification, self.number)

    def _timeout_error(self, exc: Exception) -> ProviderTimeoutError:
        target = self.target
        error = ProviderTimeoutError(
            f"{target.name} did not respond within {self.allotted:.3g} s",
            provider=target.provider,
            model=target.name,
            hint="raise the model's timeout= or first_token_timeout= if it usually takes so long",
        )
        error.__cause__ = exc.__cause__
        return error

    def _stall_error(self) -> ProviderTimeoutError:
        target = self.target
        limit = self.allotted if target.timeout is None else target.timeout
        return ProviderTimeoutError(
            f"the stream of {target.name} stalled for {limit:g} s",
            provider=target.provider,
            model=target.name,
        )

    def _report_quota(self, lease: Lease, response: Response[Any]) -> None:
        lease.succeeded()
        lease.learn(response.quota, self.call.rules.now())

    def _report_failure(self, blame: Blame, error: Exception, duration: float) -> None:
        if self.permit is None:
            return
        if blame is Blame.NEUTRAL:
            self.permit.neutral()
        else:
            counts = blame is Blame.FAILURE
            self.permit.failed(error, counts_for_rate=counts, duration=duration)

    def _free(self, used: Usage | None, billed: Usage | None) -> None:
        """Give back what it holds. After an interruption by Ctrl-C it is called again.

        `used` counts against rate limits, `billed` against budgets; None keeps the estimate.
        """
        if self.freed:
            return
        call = self.call
        if self.lease is not None:
            self.lease.release(call.rules.now(), used)
        if self.spendings:
            for budget, spending in zip(call.budgets, self.spendings, strict=True):
                budget.settle(spending, billed, self.endpoint.price)
        client, self.client = self.client, None
        if client is not None:
            client.give_back(self.endpoint, call.rules.now())
        self.freed = True

    def _settle(
        self,
        outcome: Outcome,
        duration: float,
        *,
        response: Response[Any] | None = None,
        error: LLMError | None = None,
        reason: str | None = None,
    ) -> None:
        self.settled = True
        call, target = self.call, self.target
        usage = reported_usage(response, error)
        used, billed, cost, estimated = (
            make_bill(  # positional: by keyword, each attempt takes longer
                call.request,
                outcome,
                response,
                error,
                usage,
                None if self.first_token is None else self.received,
                self.endpoint.price,
                bool(self.spendings),
            )
        )
        self._free(used, billed)
        name: str | None = None
        error_type: str | None = None
        status: int | None = None
        details: Mapping[str, Any] | None = None
        omitted: tuple[str, ...] = ()
        model_id = self.endpoint.model_id
        if error is not None:
            name, details = type(error).__name__, error.details
            status = getattr(error, "status", None)
            error_type = str(status) if status else error.error_type
        if response is not None:
            details, omitted = response.details, response.omitted
            model_id = response.model_id or model_id
        usage = usage or NOTHING
        fields = (  # an `Entry` that is called takes three times as long to make
            target.name,  # model
            target.provider,  # provider
            outcome,  # outcome
            self.number,  # number
            self.started - call.began,  # started
            duration,  # duration
            self.delay,  # delay
            self.waited,  # waited
            name,  # error
            error_type,  # error_type
            status,  # status
            reason,  # reason
            self.state,  # breaker
            call.cache,  # cache
            usage.input_tokens,  # input_tokens
            usage.output_tokens,  # output_tokens
            self.position,  # position
            self.first_token,  # first_token
            omitted,  # omitted
            details,  # details
            model_id,  # model_id
            usage.cache_read_tokens,  # cache_read_tokens
            usage.cache_write_tokens,  # cache_write_tokens
            usage.reasoning_tokens,  # reasoning_tokens
            cost,  # cost
            estimated,  # cost_estimated
        )
        entry = tuple.__new__(Entry, fields)
        call.ledger.record(entry)
        self.watch.end(entry, response, error)
        if outcome != "failure" and self.state == "closed":
            return
        state = target.breaker_state
        if state != self.state:
            call.observer.breaker_moved(target.name, target.provider, self.state, state)


def _client_of(target: Target, lease: Lease | None) -> EndpointSource | None:
    """The client for the key of `lease`, if it has one."""
    member = None if lease is None else lease.member
    return None if member is None else target.clients.get(member)


def first_attempt(call: Call) -> Attempt | None:
    """Begin the first attempt of a request, if nothing has to be done before it.

    A look-up in the cache, a wait or a question to other processes would have to be done before it.
    Returns None in that case, and has changed nothing.
    """
    rules = call.rules
    if rules.caching or rules.attempt_middleware or call.budgets or call.check is not None:
        return None
    target = call.walk.next_stop()
    if (
        not isinstance(target, Target)
        or not target.prepared
        or target.pool is not None
        or target.rate_limited_until >= 0.0
        or (call.request.tools and "tools" not in target.endpoint.capabilities)
    ):
        return None
    permit: Permit | None = None
    if target.breaker is not None:
        permit = target.breaker.admit_if_closed()
        if permit is None:
            return None
    return Attempt(  # positional: as below
        call, target, permit, None, 0.0, 0.0, target.timeout, ()
    )


def begin_attempt(
    call: Call, target: Target, delay: float, limit: float | None
) -> Flow[Attempt | LLMError]:
    """Reserve the budget, wait for a lease, ask the breaker, and start the clock.

    Returns an error if the attempt cannot begin: it exceeds a budget, no lease became free within
    this target's share of the time, or the breaker does not admit it. The error is recorded as a
    skip.

    Raises:
        DeadlineExceededError: no lease becomes free within the deadline.
    """
    if not target.prepared:
        yield from _prepare(target)
    spendings: tuple[Spending, ...] = ()
    if call.budgets:
        reserved = yield from reserve_budgets(call, target)
        if isinstance(reserved, LLMError):
            return reserved
        spendings = reserved
    lease: Lease | None = None
    waited = 0.0
    if target.pool is not None:
        waited = call.ledger.waited
        try:
            granted = yield from acquire_lease(call, target, target.pool)
        except BaseException:
            give_back(call, spendings)
            raise
        if isinstance(granted, LLMError):
            give_back(call, spendings)
            return granted
        lease, waited = granted, call.ledger.waited - waited
    permit: Permit | None = None
    if target.circuit is not None and target.breaker is not None:
        try:
            permit = yield from _admit_in_fleet(target.breaker, target.circuit, limit)
        except BaseException:
            _free_unsent(call, lease, spendings)
            raise
        if permit is None:
            return _refused(call, target, lease, spendings)
    return admit(
        call, target, delay, limit, lease=lease, waited=waited, spendings=spendings, permit=permit
    )


def admit(
    call: Call,
    target: Target,
    delay: float,
    limit: float | None,
    lease: Lease | None = None,
    waited: float = 0.0,
    spendings: tuple[Spending, ...] = (),
    permit: Permit | None = None,
) -> Attempt | LLMError:
    """Ask the breaker and start the clock. Everything is given back if the breaker refuses."""
    if permit is None and target.breaker is not None:
        breaker = target.breaker
        permit = breaker.admit() if limit is None else breaker.admit(lease=limit + _LEASE_MARGIN)
        if permit is None:
            return _refused(call, target, lease, spendings)
    return Attempt(  # positional: by keyword, each attempt takes 0.2 µs longer
        call, target, permit, lease, delay, waited, limit, spendings
    )


def _admit_in_fleet(
    breaker: CircuitBreaker, circuit: SharedCircuit, limit: float | None
) -> Flow[Permit | None]:
    """Ask the breaker, and the fleet if this call would be a probe."""
    lease = None if limit is None else limit + _LEASE_MARGIN
    if breaker.state == "closed" or not breaker.would_admit():
        return breaker.admit(lease=lease)
    question = circuit.ask()
    reply = yield from Consult(question)
    return circuit.admit(question, reply, lease=lease)


def _prepare(target: Target) -> Flow[None]:
    """Let the endpoint prepare itself once, outside the time of any attempt."""
    if target.endpoint.prepare is not None:
        yield from Prepare(target.endpoint.prepare)
    target.prepared = True


def _refused(
    call: Call, target: Target, lease: Lease | None, spendings: tuple[Spending, ...]
) -> LLMError:
    """Give everything back, as the breaker does not admit the attempt."""
    _free_unsent(call, lease, spendings)
    return circuit_open(call, target)


def _free_unsent(call: Call, lease: Lease | None, spendings: tuple[Spending, ...]) -> None:
    """Give everything back, as nothing was sent."""
    if lease is not None:
        lease.release(call.rules.now(), sent=False)
    give_back(call, spendings)
