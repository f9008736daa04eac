"""A place in a pool's queue, then the use of one of its members."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agentkit.errors import LLMError, PoolExhaustedError
from agentkit.policy.classification import Classification
from agentkit.policy.limits.member import Member
from agentkit.policy.limits.window import Admission, Need
from agentkit.types import Quota, Usage

if TYPE_CHECKING:
    from agentkit.policy.limits.pool import Pool
    from agentkit.policy.target import Endpoint


class Lease:
    """What `Pool.request` gives; a `Signal` that fires on news."""

    __slots__ = (
        "_news", "_pool", "_released", "_wake", "admission", "endpoint", "era", "granted",
        "member", "need", "rank", "refusal",
    )  # fmt: skip

    def __init__(self, pool: Pool, need: Need, rank: float) -> None:
        self._pool = pool
        self._wake: Callable[[], None] | None = None
        self._news = False
        self._released = False
        self.era = pool.era
        self.need = need
        self.rank = rank
        self.granted = False
        self.member: Member | None = None
        self.endpoint: Endpoint | None = None
        self.admission: Admission | None = None
        self.refusal: PoolExhaustedError | None = None

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` once there is news: it is granted, or its turn has come to look again."""
        self._wake = wake
        if self.granted or self._news:
            wake()

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Forget `wake`."""
        self._wake = None

    def wait(self, now: float) -> float:
        """Look again; seconds until looking is worth it, infinite when only news can tell.

        Raises:
            PoolExhaustedError: the limits became smaller than the request while it waited.
        """
        return self._pool._look(self, now)

    def release(self, now: float, usage: Usage | None = None, *, sent: bool = True) -> None:
        """Give it back, or leave the queue. A second release does nothing. Never blocks.

        `usage` corrects the estimate; without it the estimate stands. Not `sent`: all comes back.
        """
        if not self._released:
            self._released = True
            self._pool._returned.append((self, now, usage, sent))
            self._pool._settle()

    def learn(self, quota: Quota | None) -> None:
        """The provider said what its limits are."""
        if quota is not None and self.member is not None:
            self._pool._learn(self.member, quota)

    def succeeded(self) -> None:
        """Its member is well."""
        if self.member is not None:
            self.member.failures = 0

    def failed(self, error: LLMError, classification: Classification, now: float) -> Classification:
        """Its member's attempt failed with `error`; what that means while other members are left.

        A 429 rests this member, a refused key retires it, and both send the request to the next
        one at once; with no other member left the classification stays. While all others rest, too,
        `error.retry_after` becomes the seconds until the first of them is back.
        """
        return self._pool._failed(self, error, classification, now)
