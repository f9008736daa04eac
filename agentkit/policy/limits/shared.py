"""The protocol of limits that several processes share.

A pool asks its `Sharing` under its lock. What has to happen without the lock is returned as a
function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

from agentkit.errors import PoolExhaustedError
from agentkit.policy.limits.member import Member
from agentkit.policy.limits.rates import Need
from agentkit.types import Quota, Usage

OnLoss: TypeAlias = Literal["share", "stop", "open"]
"""What a process may take while the store is lost: an equal share of what was left, nothing, or
everything."""

MOST_ASKED: Final = 64
"""The most waiting calls in one question to the other processes."""


class Waiting(Protocol):
    """A call in the queue of a pool."""

    @property
    def need(self) -> Need:
        """The tokens it needs."""
        ...

    @property
    def rank(self) -> float:
        """Since when it waits, by the clock; earlier with priority."""
        ...


class Sharing(Protocol):
    """The processes that use the same keys. They decide together which waiting calls are served."""

    def decides(self, now: float) -> bool:
        """Whether they have to be asked; false if nothing is limited, or they cannot be reached."""
        ...

    def is_asking(self, now: float) -> bool:
        """Whether a reply is due."""
        ...

    def use_ahead(self, need: Need, now: float) -> tuple[Member, object] | None:
        """A member whose place was taken ahead and suffices for `need`, and what that took."""
        ...

    def may_ask(self, head: Waiting, now: float) -> bool:
        """Whether to ask now for the queue that begins with `head`."""
        ...

    def ask(
        self, free: Sequence[tuple[Member, int, int]], waiting: Sequence[Waiting], now: float
    ) -> Callable[[], None]:
        """Ask for `waiting`; `free` has each member with its free places and its load."""
        ...

    def wait(self, now: float) -> float:
        """Seconds until it is time to look again."""
        ...

    def allows(self, member: Member, need: Need, now: float) -> bool:
        """Whether this process may take `need` alone, when it does not have to ask."""
        ...

    def wait_alone(self, member: Member, need: Need, now: float) -> float:
        """Seconds until `allows` may be true."""
        ...

    def refusal(self, now: float) -> PoolExhaustedError | None:
        """The error of every call, if nothing is served without the other processes."""
        ...

    def take(self, member: Member, need: Need, now: float, bucket: int | None) -> object:
        """Count what a call takes; `bucket` is None if the others were not asked."""
        ...

    def settle(self, taken: object, usage: Usage | None, *, sent: bool) -> None:
        """Count what a call really used; None: the estimate stands."""
        ...

    def settle_soon(self) -> None:
        """Report what was settled to the others. Called without the lock."""
        ...

    def report_pause(self, member: Member, seconds: float) -> Callable[[], None]:
        """The provider asks for a pause of `member`."""
        ...

    def report_limits(self, member: Member, quota: Quota, now: float) -> Callable[[], None]:
        """The provider reported limits of `member`."""
        ...

    def statistics(self) -> dict[str, Any]:
        """Whether the other processes decide, how many there are, and counters."""
        ...

    def leave_to_parent(self) -> None:
        """In a forked child: what was asked and taken is the parent's."""
        ...
