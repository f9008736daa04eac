"""The keys of a model, each with its concurrency, quota and health, and one queue of callers.

A pool has one member per key; a model without keys has one member. `Pool.request` gives a `Lease`,
granted immediately or in its turn. Callers are served first come, first served, and a large request
is never overtaken. A `priority` of n counts as n × `AGING` seconds of waiting, so that no caller
waits forever.

A pool only decides. It holds no client and calls nothing but the wakes of waiting callers, and
those outside its lock.
"""

from __future__ import annotations

import hashlib
import logging
import math
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Literal, TypeAlias, get_args

from agentkit._fork import fork_safe_lock, is_held, on_fork
from agentkit.errors import (
    AuthenticationError,
    ConfigurationError,
    LLMError,
    ModelNotFoundError,
    PoolExhaustedError,
    RateLimitError,
)
from agentkit.policy.classification import Blame, Classification, Retry
from agentkit.policy.limits.member import LONGEST_PAUSE, Member
from agentkit.policy.limits.rates import Admission, Need
from agentkit.policy.limits.shared import MOST_ASKED, Sharing
from agentkit.policy.validation import choice, number, whole_number
from agentkit.types import Quota, Usage

log = logging.getLogger("agentkit.pool")

Wake: TypeAlias = Callable[[], None]
Strategy: TypeAlias = Literal["round_robin", "least_loaded"]

AGING = 10.0
"""Seconds of waiting that weigh as much as one step of priority."""

COOLDOWN = 30.0
"""Seconds for which a member is not used when its provider does not say how long to wait."""

UNHEALTHY_AFTER = 3
"""Failures in a row after which a member is not used for `COOLDOWN` while others can serve."""

_TEMPORARY = (402, 403, 404)
"""No credit or no access to this model. Unlike after a 401, the same key may work later."""


class _Hold(Enum):
    """Why a call is not served now."""

    OTHERS_BEFORE = "other calls wait before it"
    OTHERS_DECIDE = "the other processes have to be asked"
    STORE_LOST = "the other processes cannot be asked, and nothing is served without them"
    NO_ROOM = "no member has room for it"


def key_fingerprint(secret: str | None) -> str:
    """A name for a key that reveals nothing of it: the start of its SHA-256; ``-`` without a key.

    The same key has the same fingerprint everywhere.
    """
    if secret is None:
        return "-"
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


class Lease:
    """A place in a pool's queue, then the use of one of its members. A `Signal` that fires on news.

    `member` is the key that serves the call, None while the lease is not granted.
    """

    __slots__ = (
        "_admission",
        "_era",
        "_news",
        "_pool",
        "_refusal",
        "_released",
        "_taken",
        "_taken_back",
        "_wake",
        "member",
        "need",
        "rank",
    )

    def __init__(self, pool: Pool, need: Need, rank: float, era: int) -> None:
        self._pool = pool
        self.need = need
        self.rank = rank
        self._era = era
        self._wake: Wake | None = None
        self._news = False
        self._released = False
        self._taken_back = False
        """Whether its member no longer counts it."""
        self._admission: Admission | None = None
        self._taken: object = None
        """What it took of limits that processes share."""
        self._refusal: PoolExhaustedError | None = None
        self.member: Member | None = None

    @property
    def granted(self) -> bool:
        """Whether a member serves it."""
        return self.member is not None

    def is_undecided(self, now: float) -> bool:
        """Whether the reply of other processes is due, which may grant it."""
        sharing = self._pool.sharing
        return self.member is None and sharing is not None and sharing.is_asking(now)

    def subscribe(self, wake: Wake) -> None:
        """Call `wake` once it is granted or should look again, immediately if that is so now."""
        self._wake = wake
        if self.member is not None or self._news:
            wake()

    def unsubscribe(self, wake: Wake) -> None:
        """Forget `wake`."""
        self._wake = None

    def wait(self, now: float) -> float:
        """Look again. Returns the seconds until the next look, infinite if a wake comes before it.

        Raises:
            PoolExhaustedError: the limits became smaller than the request while it waited.
        """
        return self._pool._look(self, now)

    def release(self, now: float, usage: Usage | None = None, *, sent: bool = True) -> None:
        """End the use of the member, or leave the queue. Never blocks; a second release is ignored.

        `usage` replaces the estimate, which stands without it. If nothing was sent, the quota is
        given back.
        """
        if not self._released:
            self._pool._returned.append((self, now, usage, sent))
            self._released = True
        if self._pool._returned:
            self._pool._settle()

    def __del__(self) -> None:
        """Give back the place of a call that Ctrl-C ended where nothing else could."""
        if getattr(self, "member", None) is not None and not self._released:
            self.release(-math.inf)  # no clock: the head of the queue looks again by its own

    def learn(self, quota: Quota | None, now: float) -> None:
        """Apply the limits that the provider reported."""
        if quota is not None and self.member is not None:
            self._pool._learn(self.member, quota, now)

    def succeeded(self) -> None:
        """The member served a call."""
        if self.member is not None:
            self.member.failures = 0

    def failed(self, error: LLMError, classification: Classification, now: float) -> Classification:
        """The member's attempt failed with `error`; what that means for the request.

        After a 429 this member is not used for a while, and a refused key is retired; both send the
        request to the next member immediately. If no other member is left, the classification
        stays. If all others are rate limited, too, `error.retry_after` becomes the number of
        seconds until the first of them is available.
        """
        return self._pool._failed(self, error, classification, now)


class Pool:
    """The members behind one target and the queue of callers. Safe to use from many threads.

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
            raise ConfigurationError("a pool needs a member", hint="pass at least one key")
        choice("strategy", strategy, get_args(Strategy))
        self.name = name
        self.members = tuple(members)
        self.strategy: Strategy = strategy
        self.acquire_timeout = (
            None if acquire_timeout is None else number("acquire_timeout", acquire_timeout)
        )
        self.counts_tokens = any(member.window.counts_tokens for member in self.members)
        """Whether a request must be estimated before it is admitted."""
        self.max_in_use = None if max_in_use is None else whole_number("max_in_use", max_in_use)
        self.sharing: Sharing | None = None
        """The processes that use the same keys; None: only this one counts."""
        self._era = 0  # forks so far: a lease of the parent is released there
        self._next = 0
        self._queue: list[Lease] = []
        self._returned: deque[tuple[Lease, float, Usage | None, bool]] = deque()
        self.lock = fork_safe_lock()
        on_fork(self._leave_to_parent)

    @property
    def in_use(self) -> int:
        """Granted leases that are not released."""
        return sum(member.in_use for member in self.members)

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._queue)

    def request(self, need: Need, now: float, priority: int = 0) -> Lease:
        """A lease, granted if a member is free and no caller waits before this one.

        Raises:
            PoolExhaustedError: `need` is larger than any member's limit.
        """
        lease = Lease(self, need, now - priority * AGING, self._era)
        wakes: list[Wake] = []
        with self.lock:
            place = _Hold.OTHERS_BEFORE if self._queue else self._place(need, now)
            if isinstance(place, tuple):
                self._give(lease, place[0], now, taken=place[1])
            else:
                lease._refusal = self._refusal(need, now)
                if lease._refusal is None:
                    insort(self._queue, lease, key=_rank)
                    if place is not _Hold.OTHERS_BEFORE and self._queue[0] is lease:
                        self._wait_at_head(lease, place, now, wakes)
                    else:
                        self._grant(now, wakes)
                    lease._news = False
        if wakes or self._returned:
            self._unlocked(wakes)
        if lease._refusal is not None:
            raise lease._refusal
        return lease

    def update(self, change: Callable[[list[Wake]], None], now: float) -> None:
        """Call `change` while the pool is locked, and serve whoever can be served then.

        `change` gets a list for what is to be called when the pool is unlocked.
        """
        wakes: list[Wake] = []
        with self.lock:
            change(wakes)
            self._grant(now, wakes)
        self._unlocked(wakes)

    def serve(
        self, lease: Lease, member: Member, now: float, bucket: int | None, wakes: list[Wake]
    ) -> bool:
        """Give `member` to a call that other processes have agreed to, if it still waits.

        Called by a change of `update`.
        """
        if lease.member is not None or member.retired or lease not in self._queue:
            return False
        self._queue.remove(lease)
        self._give(lease, member, now, bucket)
        _notify(lease, wakes)
        return True

    def refuse_hopeless(self, now: float, wakes: list[Wake]) -> None:
        """Refuse the waiting calls that can never be served. The lock must be held.

        Limits shrank, a key was retired or the store is lost. Each refused call looks again, which
        serves those behind it.
        """
        for lease in list(self._queue):
            lease._refusal = self._refusal(lease.need, now)
            if lease._refusal is not None and lease in self._queue:
                self._queue.remove(lease)
                _notify(lease, wakes)

    def _leave_to_parent(self) -> None:
        """In a forked child: the calls under way are the parent's. Limits and health stay."""
        self._queue.clear()
        self._returned.clear()
        self._era += 1
        for member in self.members:
            member.in_use = 0
            member.window.recount()
        if self.sharing is not None:
            self.sharing.leave_to_parent()

    def _refusal(self, need: Need, now: float) -> PoolExhaustedError | None:
        if self.sharing is not None and (refusal := self.sharing.refusal(now)) is not None:
            return refusal
        reasons = [each.window.too_large(need, now) for each in self.members if not each.retired]
        if not all(reasons):
            return None
        return PoolExhaustedError(
            f"the request is larger than a minute of {self.name} allows: {reasons[0]}",
            hint="shorten it, lower max_tokens=, or raise the limit",
        )

    def _grant(self, now: float, wakes: list[Wake]) -> None:
        """Serve the queue from its head as far as possible; `wakes` gets what to call unlocked."""
        while self._queue:
            head = self._queue[0]
            if head.member is not None:  # Ctrl-C came before it left the queue
                self._queue.remove(head)
                continue
            place = self._place(head.need, now)
            if not self._queue or self._queue[0] is not head:
                continue  # a signal handler asked for a lease meanwhile
            if not isinstance(place, tuple):
                self._wait_at_head(head, place, now, wakes)
                return
            self._give(head, place[0], now, taken=place[1])
            if head in self._queue:
                self._queue.remove(head)
            _notify(head, wakes)

    def _place(self, need: Need, now: float) -> tuple[Member, object] | _Hold:
        """A member that serves `need` now and what it has taken of shared limits, or why none does.

        This is the only place that asks the other processes whether they decide.
        """
        sharing = self.sharing
        if sharing is not None:
            is_full = self.max_in_use is not None and self.in_use >= self.max_in_use
            if now > -math.inf and not is_full:  # `Lease.__del__` has no clock
                ahead = sharing.use_ahead(need, now)
                if ahead is not None:
                    return ahead
            if sharing.decides(now):
                return _Hold.OTHERS_DECIDE
            if sharing.refusal(now) is not None:
                return _Hold.STORE_LOST
        member = self._choose(need, now)
        return _Hold.NO_ROOM if member is None else (member, None)

    def _wait_at_head(self, head: Lease, hold: _Hold, now: float, wakes: list[Wake]) -> None:
        """Ask the other processes for the head of the queue, refuse it, or let it look again."""
        if hold is _Hold.OTHERS_DECIDE and self.sharing is not None:
            self._ask(self.sharing, now, wakes)
        elif hold is _Hold.STORE_LOST:
            self.refuse_hopeless(now, wakes)
        elif not head._news:
            _notify(head, wakes)

    def _ask(self, sharing: Sharing, now: float, wakes: list[Wake]) -> None:
        """Ask the other processes for as many waiting calls as there are places for."""
        head = self._queue[0]
        if now > -math.inf and sharing.may_ask(head, now):  # `Lease.__del__` has no clock
            places = MOST_ASKED
            if self.max_in_use is not None:
                places = min(places, self.max_in_use - self.in_use)
            order = [*self.members[self._next :], *self.members[: self._next]]
            free = [
                (each, each.places(now), 0 if self.strategy == "round_robin" else each.in_use)
                for each in order
            ]
            places = min(places, sum(count for _, count, _ in free))
            if places > 0:
                self._next = (self._next + places) % len(order)
                wakes.append(sharing.ask(free, self._queue[:places], now))
        if not head._news:
            _notify(head, wakes)

    def _give(
        self,
        lease: Lease,
        member: Member,
        now: float,
        bucket: int | None = None,
        taken: object = None,
    ) -> None:
        member.in_use, lease.member = member.in_use + 1, member  # one step, even for Ctrl-C
        member.served += 1
        lease._admission = member.window.admit(lease.need, now)
        if taken is None and self.sharing is not None:
            taken = self.sharing.take(member, lease.need, now, bucket)
        lease._taken = taken

    def _choose(self, need: Need, now: float) -> Member | None:
        if self.max_in_use is not None and self.in_use >= self.max_in_use:
            return None
        members, sharing = self.members, self.sharing
        count = len(members)
        best: Member | None = None
        at = index = self._next
        for _ in range(count):
            member = members[index]
            index = index + 1 if index + 1 < count else 0
            if (
                (best is None or member.in_use < best.in_use)
                and member.is_free(need, now)
                and (sharing is None or sharing.allows(member, need, now))
            ):
                best, at = member, index
                if self.strategy == "round_robin":
                    break
        self._next = at
        return best

    def _look(self, lease: Lease, now: float) -> float:
        wakes: list[Wake] = []
        seconds = math.inf
        with self.lock:
            self._grant(now, wakes)
            lease._news = False
            if self.sharing is not None and lease.member is None and lease._refusal is None:
                lease._refusal = self.sharing.refusal(now)
                if lease._refusal is not None and lease in self._queue:
                    self._queue.remove(lease)
            if lease.member is not None:
                seconds = 0.0
            elif self._queue and self._queue[0] is lease:
                seconds = self._wait(lease.need, now)
        self._unlocked(wakes)
        if lease._refusal is not None:
            raise lease._refusal
        return seconds

    def _wait(self, need: Need, now: float) -> float:
        """Seconds until a member could serve `need` if it were the only one."""
        if self.max_in_use is not None and self.in_use >= self.max_in_use:
            return math.inf
        sharing = self.sharing
        if sharing is None:
            return min(member.wait(need, now) for member in self.members)
        if sharing.decides(now):
            waits = (each.wait(_NO_TOKENS, now, counted=False) for each in self.members)
            return max(sharing.wait(now), min(waits))
        return min(
            max(each.wait(need, now), sharing.wait_alone(each, need, now)) for each in self.members
        )

    def _settle(self) -> None:
        """Process what was returned. If the lock is taken, its holder does so afterwards.

        The garbage collector may drop a call while this very thread holds the lock. What Ctrl-C
        interrupts is processed again, and counts once.
        """
        while self._returned and not is_held(self.lock):
            wakes: list[Wake] = []
            with self.lock:
                while self._returned:
                    lease, now, usage, sent = self._returned[0]
                    if lease._era == self._era:
                        self._take_back(lease, usage, sent=sent)
                    self._returned.popleft()
                    if self._queue:
                        self._grant(now, wakes)
            if self.sharing is not None:
                wakes.append(self.sharing.settle_soon)
            _call(wakes)

    def _unlocked(self, wakes: list[Wake]) -> None:
        """What there is to do now that the lock is free."""
        _call(wakes)
        self._settle()

    def _take_back(self, lease: Lease, usage: Usage | None, *, sent: bool) -> None:
        member, admission = lease.member, lease._admission
        if member is None:
            if lease in self._queue:
                self._queue.remove(lease)
            return
        if lease._taken_back:
            return
        member.in_use, lease._taken_back = member.in_use - 1, True  # one step, even for Ctrl-C
        if self.sharing is not None and lease._taken is not None:
            self.sharing.settle(lease._taken, usage, sent=sent)
        if admission is None:
            return
        if not sent:
            member.window.refund(admission)
        elif usage is not None:
            member.window.correct(admission, usage.input_tokens, usage.output_tokens)

    def _learn(self, member: Member, quota: Quota, now: float) -> None:
        wakes: list[Wake] = []
        with self.lock:
            if self.sharing is not None:
                wakes.append(self.sharing.report_limits(member, quota, now))
            if member.window.learn(quota, now):
                self.counts_tokens = self.counts_tokens or member.window.counts_tokens
                self.refuse_hopeless(now, wakes)
        self._unlocked(wakes)

    def _failed(
        self, lease: Lease, error: LLMError, classification: Classification, now: float
    ) -> Classification:
        member = lease.member
        limited = isinstance(error, RateLimitError)
        if member is None or (classification.blame is Blame.NEUTRAL and not limited):
            return classification
        wakes: list[Wake] = []
        with self.lock:
            was_retired = member.retired
            if self.sharing is not None and limited and error.retry_after is not None:
                wakes.append(self.sharing.report_pause(member, error.retry_after))
            others = [each for each in self.members if each is not member and not each.retired]
            if others:
                back_at = min(each.available_at for each in others)
                classification = self._suspend(member, error, classification, back_at, now)
                if member.retired:
                    self.refuse_hopeless(now, wakes)
        if member.retired and not was_retired:
            log.warning("%s: key %s was refused and is not used again", self.name, member.name)
        self._unlocked(wakes)
        return classification

    def _suspend(
        self,
        member: Member,
        error: LLMError,
        classification: Classification,
        back_at: float,
        now: float,
    ) -> Classification:
        """What `error` does to `member`; the first of the others is available at `back_at`.

        A suspected member is left out only while another can serve: the target's breaker must see
        the other failures.
        """
        another_serves = back_at <= now
        next_member = classification._replace(blame=Blame.NEUTRAL, retry=Retry.IMMEDIATELY)
        if isinstance(error, RateLimitError):
            if error.retry_after is not None:
                member.available_at = now + min(error.retry_after, LONGEST_PAUSE)
                if not another_serves:
                    error.retry_after = min(error.retry_after, back_at - now)
            elif another_serves:
                member.available_at = now + COOLDOWN
            return next_member if another_serves else classification
        if isinstance(error, AuthenticationError | ModelNotFoundError):
            if error.status in _TEMPORARY or isinstance(error, ModelNotFoundError):
                if not another_serves:
                    return classification
                member.available_at = now + COOLDOWN
            else:
                member.retired = True
            return next_member
        member.failures += 1
        if member.failures >= UNHEALTHY_AFTER and another_serves:
            member.failures = UNHEALTHY_AFTER - 1
            member.available_at = now + COOLDOWN
        return classification


_NO_TOKENS = Need()


def _rank(lease: Lease) -> float:
    return lease.rank


def _notify(lease: Lease, wakes: list[Wake]) -> None:
    """Mark `lease` as having news, to be woken once the lock is free."""
    lease._news = True
    if (wake := lease._wake) is not None:
        wakes.append(wake)


def _call(wakes: list[Wake]) -> None:
    for wake in wakes:
        try:
            wake()
        except Exception:
            log.exception("a waiting call could not be woken")
