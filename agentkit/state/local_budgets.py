"""The functions over accounts of budgets in this process; see `agentkit.state.local`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentkit.state.budget_questions import NOTHING, QUIET_MS, RETURNED_MS, Sum
from agentkit.state.local_marks import LocalMarks


@dataclass
class _Account:
    start: int
    born: int
    hold: int
    counted: Sum = NOTHING
    known: Sum = NOTHING
    """The total of an account that was lost, as heard last."""
    known_at: int = 0
    ahead_until: int = 0
    """When what was reserved ahead, and not used, was given back."""
    quiet_until: int = 0
    """Until when nothing is reserved ahead."""
    returned: Sum = NOTHING
    """The part of it that belongs to processes that have reported since."""
    members: dict[str, tuple[int, Sum]] = field(default_factory=dict)
    """The epoch and the amounts of each process."""

    @property
    def total(self) -> Sum:
        lost = self.known.minus(self.returned)
        return self.counted.plus(Sum(*map(max, lost, NOTHING)))

    def introduce(self, reported: Sum, seen: Sum, seen_at: int) -> None:
        """Take out of what was lost what a process reports itself."""
        self.returned = self.returned.plus(reported)
        if seen_at > self.known_at:
            self.known, self.known_at = seen, seen_at

    def has_room(self, wanted: Sum, limit: Sequence[float]) -> bool:
        """Whether `wanted` fits into `limit` (-1: unlimited)."""
        after = self.total.plus(wanted)
        return all(not 0 <= most < amount for most, amount in zip(limit, after, strict=True))

    def reserve(
        self, process: str, epoch: int, amounts: Sequence[Sum], limit: Sequence[int], now: int
    ) -> tuple[bytes, int, int]:
        """Reserve what is wanted, and what is wanted ahead: status, ms to wait, and the latter."""
        wanted, ahead = amounts
        if not self.has_room(wanted, limit):
            if self.ahead_until <= now:
                return b"no", 0, 0
            self.quiet_until = now + QUIET_MS
            return b"wait", self.ahead_until - now, 0
        self.count(process, epoch, wanted)
        is_loud = any(ahead) and self.quiet_until <= now
        if not is_loud or not self.has_room(ahead, [each / 2 for each in limit]):
            return b"yes", 0, 0
        self.count(process, epoch, ahead)
        self.ahead_until = now + RETURNED_MS
        return b"yes", 0, 1

    def count(self, process: str, epoch: int, change: Sum) -> None:
        _, own = self.members.get(process, (0, NOTHING))
        self.members[process] = epoch, own.plus(change)
        self.counted = self.counted.plus(change)


class LocalBudgets:
    """Accounts in memory; `now` is the time in milliseconds."""

    def __init__(self, now: Callable[[], int], marks: LocalMarks) -> None:
        self._now = now
        self._marks = marks
        self._accounts: dict[str, _Account] = {}

    def flush(self) -> None:
        """Lose everything."""
        self._accounts.clear()

    def budget_spend(self, key: str, *asked: Any) -> list[Any]:
        """See `agentkit.state.budget_questions.spend`."""
        mark, asked = (asked[0], asked[1:]) if len(asked) % 2 else (None, asked)
        process, epoch, start, end, born, *amounts = asked
        base, reported, seen, spent, wanted = (Sum(*amounts[i : i + 2]) for i in range(0, 10, 2))
        limit, (seen_at, hold, reserves, *more) = amounts[10:12], amounts[12:]
        now, account = self._now(), self._accounts.get(key)
        if account is not None:
            now = max(now, account.start)
        if now < start or (end and now >= end):
            return [b"window", now, 0, 0, 0, 0, 0]
        if account is None or account.start != start:
            account = _Account(start, now, now + hold if seen_at else 0)
        known, own = account.members.get(process, (0, NOTHING))
        if known > epoch or (born and not known):
            status = b"late" if known else b"introduce"
            return [status, now, account.born, *account.total, 0, 0]
        if not known:
            account.introduce(reported, seen, seen_at)
        if known < epoch:
            account.count(process, epoch, base.minus(own))
        account.count(process, epoch, spent)
        status, wait, ahead = b"yes", 0, 0
        if reserves:
            held = max(account.hold, self._lost_at(mark, now) + hold)
            if held > now:
                status, wait = b"wait", held - now
            else:
                both = wanted, Sum(*more)
                status, wait, ahead = account.reserve(process, epoch, both, limit, now)
        self._accounts[key] = account
        return [status, now, account.born, *account.total, wait, ahead]

    def _lost_at(self, mark: str | None, now: int) -> int:
        """When the server lost something, as far as it is known; negative if it did not."""
        if mark is None:
            return -now
        last = self._marks.last(mark)
        return now if last is None else min(last, now)

    def budget_leave(self, key: str, process: str) -> int:
        """See `agentkit.state.budget_questions.leave`."""
        account = self._accounts.get(key)
        return 0 if account is None or account.members.pop(process, None) is None else 1
