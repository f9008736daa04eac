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
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.errors import (
    AuthenticationError,
    ConfigurationError,
    LLMError,
    ModelNotFoundError,
    PoolExhaustedError,
    RateLimitError,
)
from agentkit.policy.classification import Blame, Classification, Retry
from agentkit.policy.limits.lease import Lease
from agentkit.policy.limits.member import Member
from agentkit.policy.limits.window import Need
from agentkit.policy.validation import number, whole_number
from agentkit.types import Quota, Usage

__all__ = ["AGING", "COOLDOWN", "UNHEALTHY_AFTER", "Lease", "Member", "Pool", "Strategy"]

if TYPE_CHECKING:
    from agentkit.policy.target import Endpoint

log = logging.getLogger("agentkit.pool")

News: TypeAlias = list[Callable[[], object]]
"""What is to be called once the lock is free: wakes, and clients to close."""

Strategy: TypeAlias = Literal["round_robin", "least_loaded"]

AGING = 10.0
"""Seconds of waiting that weigh as much as one step of priority."""

COOLDOWN = 30.0
"""Seconds for which a member rests that has no better word from its provider."""

UNHEALTHY_AFTER = 3
"""Failures in a row after which a member rests while others can serve."""

_FOR_NOW = (402, 403, 404)
"""No credit, no right to this model: other than a 401, that may change under the same key."""


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
        self.max_in_use = None if max_in_use is None else whole_number("max_in_use", max_in_use)
        self.era = 0
        """Forks that it went through: a lease of the parent is given back there."""
        self._next = 0
        self._queue: list[Lease] = []
        self._returned: deque[tuple[Lease, float, Usage | None, bool]] = deque()
        self._lock = fork_safe_lock()
        on_fork(self._start_empty)

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
        news: News = []
        with self._lock:
            member = None if self._queue else self._choose(need, now)
            if member is not None:
                self._give(lease, member, now, news)
            else:
                lease.refusal = self._refusal(need)
                if lease.refusal is None:
                    insort(self._queue, lease, key=_rank)
                    self._grant(now, news)
                    lease._news = False
        if news or self._returned:
            self._unlocked(news)
        if lease.refusal is not None:
            raise lease.refusal
        return lease

    def soonest(self, need: Need, now: float) -> float:
        """Seconds until a member could take `need` if nobody else came; 0.0 now."""
        with self._lock:
            seconds = self._soonest(need, now)
        self._settle()
        return seconds

    def _start_empty(self) -> None:
        """In a forked child: the calls of the parent are not its own."""
        self._queue.clear()
        self._returned.clear()
        self.era += 1
        for member in self.members:
            member.renew_after_fork()

    def _refusal(self, need: Need) -> PoolExhaustedError | None:
        reasons = [each.window.too_large(need) for each in self.members if not each.retired]
        if not all(reasons):
            return None
        return PoolExhaustedError(
            f"the request is larger than a minute of {self.name} allows: {reasons[0]}",
            hint="shorten it, lower max_tokens=, or raise the limit",
        )

    def _grant(self, now: float, news: News) -> None:
        """Serve the queue from its head as far as it goes; `news` gets what to call unlocked."""
        while self._queue:
            head = self._queue[0]
            member = self._choose(head.need, now)
            if member is None:
                if not head._news:
                    head._news = True
                    _tell(head, news)
                return
            del self._queue[0]
            self._give(head, member, now, news)
            _tell(head, news)

    def _give(self, lease: Lease, member: Member, now: float, news: News) -> None:
        _close(member.take(now), news)
        lease.endpoint = member.endpoint
        lease.admission = member.window.admit(lease.need, now)
        lease.member = member
        lease.granted = True

    def _choose(self, need: Need, now: float) -> Member | None:
        if self.max_in_use is not None and self.in_use >= self.max_in_use:
            return None
        members = self.members
        count = len(members)
        best: Member | None = None
        at = index = self._next
        for _ in range(count):
            member = members[index]
            index = index + 1 if index + 1 < count else 0
            if (best is None or member.in_use < best.in_use) and member.is_free(need, now):
                best, at = member, index
                if self.strategy == "round_robin":
                    break
        self._next = at
        return best

    def _soonest(self, need: Need, now: float) -> float:
        if self.max_in_use is not None and self.in_use >= self.max_in_use:
            return math.inf
        return min(member.wait(need, now) for member in self.members)

    def _look(self, lease: Lease, now: float) -> float:
        news: News = []
        seconds = math.inf
        with self._lock:
            self._grant(now, news)
            lease._news = False
            if lease.granted:
                seconds = 0.0
            elif self._queue and self._queue[0] is lease:
                seconds = self._soonest(lease.need, now)
        self._unlocked(news)
        if lease.refusal is not None:
            raise lease.refusal
        return seconds

    def _settle(self) -> None:
        """Take back what was returned. Where the lock is taken, its holder does it afterwards.

        A call may be dropped by the garbage collector while this very thread holds the lock.
        """
        while self._returned and self._lock.acquire(blocking=False):
            news: News = []
            try:
                while self._returned:
                    lease, now, usage, sent = self._returned.popleft()
                    if lease.era == self.era:
                        self._take_back(lease, now, usage, sent, news)
                    if self._queue:
                        self._grant(now, news)
            finally:
                self._lock.release()
            _call(news)

    def _unlocked(self, news: News) -> None:
        """What there is to do now that the lock is free."""
        _call(news)
        self._settle()

    def _take_back(
        self, lease: Lease, now: float, usage: Usage | None, sent: bool,
        news: News,
    ) -> None:  # fmt: skip
        member, admission = lease.member, lease.admission
        if member is None:
            if lease in self._queue:
                self._queue.remove(lease)
            return
        _close(member.give_back(lease.endpoint, now), news)
        if admission is None:
            return
        if not sent:
            member.window.refund(admission)
        elif usage is not None:
            member.window.correct(admission, usage.input_tokens, usage.output_tokens)

    def _learn(self, member: Member, quota: Quota) -> None:
        news: News = []
        with self._lock:
            if member.window.learn(quota):
                self.counts_tokens = self.counts_tokens or member.window.counts_tokens
                self._expel(news)
        self._unlocked(news)

    def _expel(self, news: News) -> None:
        """Limits shrank or a key retired: nobody waits for what cannot come any more.

        Who is told so looks again, and that serves those behind.
        """
        for lease in list(self._queue):
            lease.refusal = self._refusal(lease.need)
            if lease.refusal is not None:
                self._queue.remove(lease)
                lease._news = True
                _tell(lease, news)

    def _failed(
        self, lease: Lease, error: LLMError, classification: Classification, now: float
    ) -> Classification:
        member = lease.member
        limited = isinstance(error, RateLimitError)
        if member is None or (classification.blame is Blame.NEUTRAL and not limited):
            return classification
        news: News = []
        with self._lock:
            others = [each for each in self.members if each is not member and not each.retired]
            if others:
                back = min(each.resting_until for each in others)
                classification = self._rest(member, error, classification, back, now)
                if member.retired:
                    self._expel(news)
        self._unlocked(news)
        return classification

    def _rest(
        self,
        member: Member,
        error: LLMError,
        classification: Classification,
        back: float,
        now: float,
    ) -> Classification:
        """What `error` does to `member`; the others rest until `back`. A member rests on a mere
        suspicion only while another can serve: the target's breaker has to see the rest of it.
        """
        alone = back > now
        elsewhere = classification._replace(blame=Blame.NEUTRAL, retry=Retry.IMMEDIATELY)
        if isinstance(error, RateLimitError):
            if error.retry_after is not None:
                member.resting_until = now + error.retry_after
                if alone:
                    error.retry_after = min(error.retry_after, back - now)
            elif not alone:
                member.resting_until = now + COOLDOWN
            return classification if alone else elsewhere
        if isinstance(error, AuthenticationError | ModelNotFoundError):
            if error.status in _FOR_NOW or isinstance(error, ModelNotFoundError):
                if alone:
                    return classification
                member.resting_until = now + COOLDOWN
            elif not member.retired:
                member.retired = True
                log.warning("%s: key %s was refused and is used no more", self.name, member.name)
            return elsewhere
        member.failures += 1
        if member.failures >= UNHEALTHY_AFTER and not alone:
            member.failures = UNHEALTHY_AFTER - 1
            member.resting_until = now + COOLDOWN
        return classification


def _rank(lease: Lease) -> float:
    return lease.rank


def _tell(lease: Lease, news: News) -> None:
    if (wake := lease._wake) is not None:
        news.append(wake)


def _close(old: Endpoint | None, news: News) -> None:
    if old is not None and old.close is not None:
        news.append(old.close)


def _call(news: News) -> None:
    for each in news:
        try:
            each()
        except Exception as error:  # noqa: BLE001 - an old client that cannot close is gone anyway
            log.debug("%s while closing a client", type(error).__name__)
