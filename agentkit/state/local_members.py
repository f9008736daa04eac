"""The members of shared quota in this process: the window of each key.

See `agentkit.state.quota_questions`, and `agentkit.state.local`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from agentkit.state.quota_questions import SEND_WITHIN_MS, SPAN


class Member:
    """The window of one key in buckets of a second. Its fields are those of the scripts.

    Args:
        now: when it begins, in milliseconds, as are all times here.
        held: until when it grants nothing, as it may have lost entries; 0: it has lost none.
        patient: until when it waits for processes that used it before.
    """

    def __init__(self, now: int, held: int, patient: int) -> None:
        self.born = now
        self.oldest = self.newest = now // 1000
        self.buckets: dict[int, list[int]] = {}
        """Requests, input and output tokens, by the second in which they count."""
        self.rest = 0
        """Until when the provider asks for a pause."""
        self.forgets = 0
        """When the learned limits are forgotten."""
        self.returned = 0
        """When places that were taken ahead, and not used, were given back."""
        self.least_held, self.patient = held, patient
        self.held = held
        self.expected = 0
        """The most processes that some process knows to use it."""
        self.learned = [0] * 4
        """The limits that a provider reported; 0 is none."""
        self.limits: list[int] | None = None
        """The limits of whoever is first in the line."""
        self.known: dict[str, int] = {}
        """When each asker that has reported what it took was last heard of."""

    @property
    def used(self) -> list[int]:
        """Requests, input and output tokens in the window."""
        return [sum(each[kind] for each in self.buckets.values()) for kind in range(3)]

    def expire(self, now: int) -> None:
        """Drop buckets and learned limits that are too old."""
        last = min(now // 1000 - SPAN, self.newest)
        if self.oldest <= last:
            for bucket in range(self.oldest, last + 1):
                self.buckets.pop(bucket, None)
            self.oldest = last + 1
        if self.forgets <= now:
            self.learned = [0] * 4

    def add(self, bucket: int, change: Sequence[int]) -> None:
        """Add to the requests, input and output tokens of a bucket."""
        self.oldest, self.newest = min(self.oldest, bucket), max(self.newest, bucket)
        counted = self.buckets.get(bucket, [0, 0, 0])
        self.buckets[bucket] = [a + b for a, b in zip(counted, change, strict=True)]

    def wait_for_users(self, now: int, users: int) -> None:
        """Hold it longer if fewer processes have come than some process knows to use it."""
        self.held = self.least_held
        if self.patient > now:
            self.expected = max(self.expected, users)
            if len(self.known) < self.expected:
                self.held = self.patient

    def unsure(self, now: int) -> int:
        """Milliseconds for which it may grant nothing; 0 if it may grant something now."""
        return self.patient - now if self.held > now else 0

    def wait(self, limits: Sequence[int], need: Sequence[int], now: int) -> float:
        """Milliseconds until there is room for `need`, infinite if it is more than a limit."""
        wait = max(self.rest - now, self.held - now, 0)
        left = [a + b for a, b in zip(self.used, need, strict=True)]
        if not exceeds(limits, left):
            return wait
        if exceeds(limits, need):
            return math.inf
        if self.returned > now:
            return max(wait, self.returned - now)
        for bucket in range(self.oldest, self.newest + 1):
            gone = self.buckets.get(bucket, [0, 0, 0])
            left = [a - b for a, b in zip(left, gone, strict=True)]
            if not exceeds(limits, left):
                return max(wait, (bucket + SPAN) * 1000 - now)
        return max(wait, (bucket_of(now) + SPAN) * 1000 - now)


def exceeds(limits: Sequence[int], used: Sequence[int]) -> bool:
    """Whether requests, input and output tokens are more than the limits, of which 0 is none."""
    counted = (*used, used[1] + used[2])
    return any(limit and each > limit for limit, each in zip(limits, counted, strict=True))


def stricter(first: int, second: int) -> int:
    """The stricter one of two limits, of which 0 is none."""
    return min(first, second) if first and second else first or second


def bucket_of(now: int) -> int:
    """The bucket of what is admitted now."""
    return (now + SEND_WITHIN_MS) // 1000
