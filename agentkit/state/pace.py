"""The pace of the calls of a process, which says how many of the next ones to expect.

A question to the store takes longer than everything else that a fleet adds to a call. While calls
follow each other quickly, a process therefore takes some places more than it needs, and the next
calls use them without a question. What no call has used within `SEND_WITHIN` is given back.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from agentkit.state.quota_questions import SEND_WITHIN_MS

SEND_WITHIN: Final = SEND_WITHIN_MS / 1000
"""Seconds after a question within which its calls are sent, so that they leave in the second in
which the store has counted them. A process that looks at its queue, or hears a reply, later than
that is late."""
MOST_AHEAD: Final = 64
"""The most calls for which places are taken ahead."""


class Ahead(NamedTuple):
    """How many calls are expected, and how much each of them needs of two kinds at most."""

    calls: int = 0
    first: int = 0
    second: int = 0


NONE: Final = Ahead()


class Pace:
    """How fast calls follow each other, which says how many of the next ones are expected.

    That is half as many as the last `SEND_WITHIN` seconds had: hardly any of them is given back
    then, and a call that comes alone now and then expects none.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[float, int, int]] = deque(maxlen=2 * MOST_AHEAD)

    def note(self, now: float, first: int, second: int) -> None:
        """A call is served which needs so much of two kinds."""
        self._calls.append((now, first, second))

    def expect(self, now: float) -> Ahead:
        """The calls of the next `SEND_WITHIN` seconds, each as large as the largest before it."""
        calls = self._calls
        while calls and calls[0][0] + SEND_WITHIN <= now:
            calls.popleft()
        if len(calls) < 2:
            return NONE
        first = max(first for _, first, _ in calls)
        second = max(second for _, _, second in calls)
        return Ahead(len(calls) // 2, first, second)
