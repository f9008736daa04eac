"""The window of a key that a fleet shares, as one process knows it.

It has what this process took itself, and what the store had counted when it was last asked.

The process's own entries are the truth: whenever the store has lost them, or could not be asked,
they are reported again. The fleet's window, as last seen, limits what a process may take while the
store is lost. No clock, no thread: the pool of the key is locked around it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from agentkit.policy.limits import Member, Need, OnLoss
from agentkit.state.quota_questions import SPAN, Entry

Amount: TypeAlias = tuple[int, int, int]
"""Requests, input tokens and output tokens."""

NOTHING: Final[Amount] = (0, 0, 0)

_STEPS: Final = 10
"""What is seen within one of so many parts of a second is counted together, until its end."""


@dataclass(slots=True, eq=False)
class Taken:
    """What one call took: `amount` by now, of which the store has counted `counted` in `bucket`."""

    window: SharedWindow
    at: float
    amount: Amount
    counted: Amount = NOTHING
    bucket: int | None = None
    """The bucket in the store; None: the store does not count it."""
    look: int = 0
    """How often the store's window had been seen."""
    is_open: bool = True
    """Whether its real usage is not known yet."""


class SharedWindow:
    """The window of one key, `member`, which is called `name` in the fleet.

    `on_loss` is what may be taken while the store is lost.
    """

    def __init__(self, member: Member, name: str, on_loss: OnLoss) -> None:
        self.member = member
        self.name = name
        self._on_loss = on_loss
        self.processes = 1
        """Live processes that use the key, as last seen."""
        self.born = 0
        """When the store's window began, by its clock; 0: not known."""
        self.unsettled: dict[Taken, None] = {}
        """Entries whose amount is not the one that the store has counted."""
        self.reported_limits: tuple[Sequence[int], float] = ((), 0.0)
        """The limits that this process last counted the others, and when."""
        self._moved: dict[int, Amount] = {}
        """Changes of buckets because of calls that left later than they were admitted."""
        self._entries: deque[Taken] = deque()
        self._alone: deque[Taken] = deque()
        """Those of them that the store was not asked for, and has not counted since."""
        self._looks = 0
        self._others: deque[tuple[float, Amount]] = deque()
        """What the store had counted: until when, and how much; what ends first comes first."""
        self._seen = NOTHING
        """The sum of that."""
        self._own = NOTHING
        """What this process took since then, or alone before."""

    def limits(self) -> tuple[int, int, int, int]:
        """The limits in force; 0 is none."""
        requests, inputs, outputs, both = (
            each or 0 for each in self.member.window.limits().values()
        )
        return requests, inputs, outputs, both

    @property
    def is_unsettled(self) -> bool:
        """Whether the store has to be corrected."""
        return bool(self.unsettled or self._moved)

    def move(self, need: Need, bucket: int, later: int) -> None:
        """A call that the store has counted in `bucket` leaves in a `later` one."""
        amount = (1, need.input_tokens, need.output_tokens)
        self._moved[bucket] = _minus(self._moved.get(bucket, NOTHING), amount)
        self._moved[later] = _plus(self._moved.get(later, NOTHING), amount)

    def take(self, need: Need, now: float, bucket: int | None) -> Taken:
        """Count a call that is sent now; `bucket` is None if the store was not asked."""
        amount = (1, need.input_tokens, need.output_tokens)
        counted = NOTHING if bucket is None else amount
        taken = Taken(
            window=self, at=now, amount=amount, counted=counted, bucket=bucket, look=self._looks
        )
        self._entries.append(taken)
        if bucket is None:
            self._alone.append(taken)
        self._own = _plus(self._own, amount)
        return taken

    def use(self, taken: Taken, need: Need) -> None:
        """A call uses what was taken ahead, and needs no more than that."""
        amount = (1, need.input_tokens, need.output_tokens)
        if amount != taken.amount:
            self._change(taken, amount)

    def correct(self, taken: Taken, amount: Amount) -> None:
        """Replace what was estimated by what was used."""
        if taken.is_open:
            taken.is_open = False
            self._change(taken, amount)

    def _change(self, taken: Taken, amount: Amount) -> None:
        if amount != taken.amount:
            if taken.look == self._looks:
                self._own = _plus(self._own, _minus(amount, taken.amount))
            taken.amount = amount
        if taken.bucket is not None and amount != taken.counted:
            self.unsettled[taken] = None

    def had(self, now: float) -> bool:
        """Whether this process took something that may count."""
        self._expire(now)
        return bool(self._entries)

    def knows(self, born: int) -> bool:
        """Whether what was counted in the store's window that began then still counts."""
        self.born = max(self.born, born)
        return born == self.born

    def forget_counted(self) -> None:
        """The store is another one, which has counted nothing."""
        self.born = 0
        self.unsettled.clear()
        self._moved.clear()
        self._alone = self._entries.copy()
        for each in self._alone:
            each.bucket, each.counted = None, NOTHING

    def leave_to_parent(self) -> None:
        """In a forked child: what was taken is the parent's."""
        self._entries.clear()
        self._alone.clear()
        self.unsettled.clear()
        self._moved.clear()
        self._own = NOTHING

    def to_introduce(self, now: float) -> tuple[list[Taken], list[Taken]]:
        """What counts, and what of it the store was not asked for."""
        self._expire(now)
        return list(self._entries), list(self._alone)

    def introduced(self, entries: Iterable[tuple[Taken, int, Amount]], bucket: int) -> None:
        """The store has counted entries, with these ages and amounts, when it was at `bucket`."""
        for taken, age, amount in entries:
            taken.bucket, taken.counted = bucket - age, amount
            if taken.amount != amount:
                self.unsettled[taken] = None
        self._alone = deque(each for each in self._alone if each.bucket is None)

    def to_settle(self) -> tuple[list[Entry], list[tuple[Taken, Amount]]]:
        """The changes that the store does not know, and what it knew before."""
        changes, self._moved = self._moved, {}
        before = []
        for taken in self.unsettled:
            if taken.bucket is not None:
                change = _minus(taken.amount, taken.counted)
                changes[taken.bucket] = _plus(changes.get(taken.bucket, NOTHING), change)
                before.append((taken, taken.counted))
                taken.counted = taken.amount
        self.unsettled.clear()
        return [(bucket, *each) for bucket, each in changes.items() if any(each)], before

    def settle_again(self, before: Iterable[tuple[Taken, Amount]]) -> None:
        """The reply was lost: only what the store may count too little is reported again."""
        for taken, counted in before:
            taken.counted = _least(counted, taken.counted)
            if taken.amount != taken.counted:
                self.unsettled[taken] = None

    def see(self, processes: int, rows: Sequence[int], now: float, *, is_complete: bool) -> None:
        """The store's window: age in seconds, requests, input and output for each bucket.

        It is not complete while processes introduce themselves after a loss: until then, what was
        seen before counts.
        """
        if not is_complete:
            self.processes = max(self.processes, processes)
            return
        self.processes = max(processes, 1)
        self._begin_look()
        self._others = deque(
            sorted(
                (now + SPAN - rows[at], (rows[at + 1], rows[at + 2], rows[at + 3]))
                for at in range(0, len(rows), 4)
            )
        )
        self._seen = _sum(amount for _, amount in self._others)

    def see_sum(self, amount: Amount, now: float) -> None:
        """What the store's window holds now: more than was seen is new."""
        self._expire_seen(now)
        requests, inputs, outputs = _minus(amount, self._seen)
        self._begin_look()
        if requests > 0 or inputs > 0 or outputs > 0:
            more = max(requests, 0), max(inputs, 0), max(outputs, 0)
            self._seen = _plus(self._seen, more)
            others, until = self._others, math.ceil((now + SPAN) * _STEPS) / _STEPS
            if others and others[-1][0] == until:
                _, before = others.pop()
                more = _plus(before, more)
            others.append((until, more))

    def has_room(self, need: Need) -> bool:
        """Whether there was room for `need` when the store's window was seen last."""
        wanted = (1, need.input_tokens, need.output_tokens)
        after = _plus(self._seen, wanted)
        return all(
            not limit or amount <= limit
            for limit, amount in zip(self.limits(), _with_both(after), strict=True)
        )

    def allows(self, need: Need, now: float) -> bool:
        """Whether this process may take `need` while the store is lost."""
        if self._on_loss != "share":
            return self._on_loss == "open"
        self._expire(now)
        self._expire_seen(now)
        seen = self._seen
        wanted = (1, need.input_tokens, need.output_tokens)
        rows = zip(
            self.limits(), _with_both(seen), _with_both(self._own), _with_both(wanted), strict=True
        )
        for limit, others, mine, more in rows:
            share = (limit - others) / self.processes
            # What is larger than any share is served when this process took nothing else.
            alone = not mine and more * self.processes > limit and others + more <= limit
            if limit and mine + more > share and not alone:
                return False
        return True

    def wait(self, need: Need, now: float) -> float:
        """Seconds until `allows` may be true; 0.0 if it is."""
        if self.allows(need, now):
            return 0.0
        ends = [until for until, _ in self._others] + [each.at + SPAN for each in self._entries]
        return min((each - now for each in ends if each > now), default=float("inf"))

    def _begin_look(self) -> None:
        """What was seen replaces what this process took, except what the store does not count."""
        self._looks, self._own = self._looks + 1, NOTHING
        for each in self._alone:
            each.look = self._looks
            self._own = _plus(self._own, each.amount)

    def _expire_seen(self, now: float) -> None:
        others = self._others
        while others and others[0][0] <= now:
            self._seen = _minus(self._seen, others.popleft()[1])

    def _expire(self, now: float) -> None:
        entries = self._entries
        while entries and entries[0].at + SPAN <= now:
            gone = entries.popleft()
            self.unsettled.pop(gone, None)
            gone.is_open = False
            if gone.look == self._looks:
                self._own = _minus(self._own, gone.amount)
        while self._alone and self._alone[0].at + SPAN <= now:
            self._alone.popleft()


def as_entries(entries: Iterable[Taken], now: float) -> list[tuple[Taken, int, Amount]]:
    """Entries with their ages in seconds and amounts, as they are reported to the store."""
    return [(each, max(int(now - each.at), 0), each.amount) for each in entries]


def _with_both(amount: Amount) -> tuple[int, int, int, int]:
    return (*amount, amount[1] + amount[2])


def _plus(a: Amount, b: Amount) -> Amount:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _minus(a: Amount, b: Amount) -> Amount:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _least(a: Amount, b: Amount) -> Amount:
    return min(a[0], b[0]), min(a[1], b[1]), min(a[2], b[2])


def _sum(amounts: Iterable[Any]) -> Amount:
    total = NOTHING
    for each in amounts:
        total = _plus(total, each)
    return total
