"""Which key serves a call, and when: concurrency, quota and health of each, one queue for all.

A pool has one member a key (a model without keys has one member). `Pool.request` gives a `Lease`:
granted at once, or in its turn. Waiters are served first come, first served, a large request is
never overtaken; a `priority` of n counts as having come n × `AGING` seconds earlier, so that
nobody waits for ever.
"""

from __future__ import annotations

import logging
import math
from bisect import insort
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Literal, TypeAlias

from agentkit.errors import (
    AuthenticationError,
    ConfigurationError,
    LLMError,
    PoolExhaustedError,
    RateLimitError,
)
from agentkit.policy.checks import number, optional, whole
from agentkit.policy.quota import Admission, Need, RateLimits, Window
from agentkit.policy.verdict import Again, Blame, Verdict
from agentkit.types import Quota, Usage

if TYPE_CHECKING:
    from agentkit.policy.routing import Endpoint

log = logging.getLogger("agentkit.pool")

Strategy: TypeAlias = Literal["round_robin", "least_loaded"]

AGING = 10.0
"""Seconds of waiting that weigh as much as one step of priority."""

COOLDOWN = 30.0
"""Seconds for which a member rests after `UNHEALTHY_AFTER` failures in a row, or a 429 alone."""

_FOR_NOW = (402, 403)
"""No credit, or no right to this model: other than a 401, that may change under the same key."""

UNHEALTHY_AFTER = 3
"""Failures in a row after which a member rests while others can serve."""


class Member:
    """One key (or one unkeyed model) of a pool: its endpoint, its limits, its health.

    `max_concurrency` None means no limit. `renew` builds a fresh endpoint once the old one is
    older than `max_lifetime` or was idle for `idle_timeout` (both seconds).
    """

    __slots__ = (
        "born", "endpoint", "failures", "idle_timeout", "in_use", "last_used", "max_concurrency",
        "max_lifetime", "name", "renew", "resting_until", "retired", "served", "window",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint | None = None,
        *,
        name: str = "",
        max_concurrency: int | None = None,
        limits: RateLimits | None = None,
        renew: Callable[[], Endpoint] | None = None,
        idle_timeout: float | None = None,
        max_lifetime: float | None = None,
    ) -> None:
        if max_concurrency is not None:
            whole("max_concurrency", max_concurrency)
        self.endpoint = endpoint
        self.name = name
        self.max_concurrency = max_concurrency
        self.window = Window(limits)
        self.renew = renew
        self.idle_timeout = optional("idle_timeout", idle_timeout, above=True)
        self.max_lifetime = optional("max_lifetime", max_lifetime, above=True)
        self.in_use = self.served = self.failures = 0
        self.resting_until = -math.inf
        self.retired = False
        self.born = self.last_used = -math.inf

    def wait(self, need: Need, now: float) -> float:
        """Seconds until it can take `need`; infinite when only a release can tell."""
        if self.retired or self.window.too_large(need):
            return math.inf
        if self.max_concurrency is not None and self.in_use >= self.max_concurrency:
            return math.inf
        return max(self.resting_until - now, self.window.wait(need, now), 0.0)

    def recycled(self, now: float) -> Endpoint | None:
        """Its endpoint, a fresh one when the old one has had its time."""
        if self.renew is not None and self.in_use == 0:
            idle = self.idle_timeout is not None and now - self.last_used >= self.idle_timeout
            old = self.max_lifetime is not None and now - self.born >= self.max_lifetime
            if self.endpoint is None or ((idle or old) and self.served):
                if self.endpoint is not None and self.endpoint.close is not None:
                    self.endpoint.close()
                self.endpoint = self.renew()
                self.born = now
        return self.endpoint


class Lease:
    """A place in a pool's queue, then the use of one member; a `Signal` that fires on news."""

    __slots__ = (
        "_news", "_pool", "_released", "_wake", "admission", "endpoint", "granted", "member",
        "need", "rank",
    )  # fmt: skip

    def __init__(self, pool: Pool, need: Need, rank: float) -> None:
        self._pool = pool
        self._wake: Callable[[], None] | None = None
        self._news = False
        self._released = False
        self.need = need
        self.rank = rank
        self.granted = False
        self.member: Member | None = None
        self.endpoint: Endpoint | None = None
        self.admission: Admission | None = None

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` once there is news: it is granted, or its turn has come to look again."""
        self._wake = wake
        if self.granted or self._news:
            wake()

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Forget `wake`."""
        self._wake = None

    def wait(self, now: float) -> float:
        """Look again; seconds until looking is worth it, infinite when only news can tell."""
        return self._pool._look(self, now)

    def release(self, now: float, usage: Usage | None = None, *, sent: bool = True) -> None:
        """Give it back, or leave the queue. A second release does nothing.

        `usage` corrects the estimate; without it the estimate stands. Not `sent`: all comes back.
        """
        self._pool._release(self, now, usage, sent)

    def learn(self, quota: Quota | None) -> None:
        """The provider said what its limits are."""
        if quota is not None and self.member is not None:
            self._pool._learn(self.member, quota)

    def succeeded(self) -> None:
        """Its member is well."""
        if self.member is not None:
            self.member.failures = 0

    def failed(self, error: LLMError, verdict: Verdict, now: float) -> Verdict:
        """Its member's attempt failed with `error`; what that means while other members are left.

        A 429 rests this member, a refused key retires it, and both send the request to the next
        one at once; with no other member left the verdict stays.
        """
        return self._pool._failed(self, error, verdict, now)


class Pool:
    """The members behind one target, and those who wait for them. Safe to use from many threads.

    `acquire_timeout` is the most seconds a call waits (None: its part of the deadline).
    `max_in_use` bounds the leases of all members together.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        name: str = "",
        strategy: Strategy = "round_robin",
        acquire_timeout: float | None = None,
        max_in_use: int | None = None,
    ) -> None:
        if not members:
            raise ConfigurationError("a pool needs a member", hint="give at least one key")
        if strategy not in ("round_robin", "least_loaded"):
            raise ConfigurationError(
                f"strategy is {strategy!r}", hint="use 'round_robin' or 'least_loaded'"
            )
        self.name = name
        self.members = tuple(members)
        self.strategy: Strategy = strategy
        self.acquire_timeout = (
            None if acquire_timeout is None else number("acquire_timeout", acquire_timeout)
        )
        self.counts_tokens = any(member.window.counts_tokens for member in self.members)
        """Whether a request must be estimated before it is admitted."""
        self.max_in_use = None if max_in_use is None else whole("max_in_use", max_in_use)
        self._next = 0
        self._queue: list[Lease] = []
        self._lock = Lock()

    @property
    def in_use(self) -> int:
        """Leases that are out."""
        return sum(member.in_use for member in self.members)

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._queue)

    def request(self, need: Need, now: float, priority: int = 0) -> Lease:
        """A lease, granted when a member is free and nobody waits before it.

        Raises:
            PoolExhaustedError: `need` is larger than any member's limit.
        """
        lease = Lease(self, need, now - priority * AGING)
        with self._lock:
            self._refuse(need)
            insort(self._queue, lease, key=_rank)
            wakes = self._grant(now)
            lease._news = False
        _fire(wakes)
        return lease

    def soonest(self, need: Need, now: float) -> float:
        """Seconds until a member could take `need` if nobody else came; 0.0 now."""
        with self._lock:
            return min(member.wait(need, now) for member in self.members)

    def renew_after_fork(self) -> None:
        """Start empty with a fresh lock, in a forked child: its parent's calls are not its own."""
        self._lock = Lock()
        self._queue.clear()
        for member in self.members:
            member.in_use = 0
            if member.renew is not None:
                member.endpoint = member.renew()

    def _refuse(self, need: Need) -> None:
        reasons = [each.window.too_large(need) for each in self.members if not each.retired]
        if all(reasons):
            raise PoolExhaustedError(
                f"the request is larger than a minute of {self.name} allows: {reasons[0]}",
                hint="shorten it, lower max_tokens=, or raise the limit",
            )

    def _grant(self, now: float) -> list[Lease]:
        """Serve the queue from its head, as far as it goes; who has to be woken."""
        news: list[Lease] = []
        while self._queue:
            head = self._queue[0]
            member = self._choose(head.need, now)
            if member is None:
                if not head._news:
                    head._news = True
                    news.append(head)
                break
            del self._queue[0]
            head.endpoint = member.recycled(now)
            member.in_use += 1
            member.served += 1
            member.last_used = now
            head.member = member
            head.admission = member.window.admit(head.need, now)
            head.granted = True
            news.append(head)
        return news

    def _choose(self, need: Need, now: float) -> Member | None:
        if self.max_in_use is not None and self.in_use >= self.max_in_use:
            return None
        count = len(self.members)
        best: Member | None = None
        for step in range(count):
            index = (self._next + step) % count
            member = self.members[index]
            if member.wait(need, now) > 0.0:
                continue
            if self.strategy == "round_robin":
                self._next = (index + 1) % count
                return member
            if best is None or member.in_use < best.in_use:
                best = member
        if best is not None:
            self._next = (self.members.index(best) + 1) % count
        return best

    def _look(self, lease: Lease, now: float) -> float:
        with self._lock:
            lease._news = False
            wakes = [each for each in self._grant(now) if each is not lease]
            lease._news = False
            if lease.granted or not self._queue or self._queue[0] is not lease:
                seconds = 0.0 if lease.granted else math.inf
            elif self.max_in_use is not None and self.in_use >= self.max_in_use:
                seconds = math.inf
            else:
                seconds = min(member.wait(lease.need, now) for member in self.members)
        _fire(wakes)
        return seconds

    def _release(self, lease: Lease, now: float, usage: Usage | None, sent: bool) -> None:
        with self._lock:
            if lease._released:
                return
            lease._released = True
            member, admission = lease.member, lease.admission
            if member is None or admission is None:
                if lease in self._queue:
                    self._queue.remove(lease)
            else:
                member.in_use -= 1
                member.last_used = now
                if not sent:
                    member.window.refund(admission)
                elif usage is not None:
                    member.window.correct(admission, usage.input_tokens, usage.output_tokens)
            wakes = self._grant(now)
        _fire(wakes)

    def _learn(self, member: Member, quota: Quota) -> None:
        with self._lock:
            member.window.learn(quota)
            self.counts_tokens = self.counts_tokens or member.window.counts_tokens

    def _failed(self, lease: Lease, error: LLMError, verdict: Verdict, now: float) -> Verdict:
        member = lease.member
        neutral = verdict.blame is Blame.NEUTRAL and not isinstance(error, RateLimitError)
        if member is None or neutral:
            return verdict
        with self._lock:
            others = [each for each in self.members if each is not member and not each.retired]
            if isinstance(error, AuthenticationError):
                self._lock_out(member, error, others, now)
            elif not isinstance(error, RateLimitError):
                self._weaken(member, others, now)
                return verdict
            elif others:
                rest = COOLDOWN if error.retry_after is None else error.retry_after
                member.resting_until = now + rest
            if all(other.resting_until > now for other in others):
                return verdict
        return verdict._replace(blame=Blame.NEUTRAL, again=Again.AT_ONCE)

    def _lock_out(
        self, member: Member, error: AuthenticationError, others: list[Member], now: float
    ) -> None:
        if not others:
            return
        if error.status in _FOR_NOW:
            member.resting_until = now + COOLDOWN
        elif not member.retired:
            member.retired = True
            log.warning("%s: key %s was refused and is used no more", self.name, member.name)

    def _weaken(self, member: Member, others: list[Member], now: float) -> None:
        member.failures += 1
        if others and member.failures >= UNHEALTHY_AFTER:
            member.failures -= 1
            member.resting_until = now + COOLDOWN


def _rank(lease: Lease) -> float:
    return lease.rank


def _fire(leases: list[Lease]) -> None:
    for lease in leases:
        if (wake := lease._wake) is not None:
            wake()
