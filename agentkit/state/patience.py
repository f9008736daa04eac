"""The time for which a store may be silent before it is lost, and when it is tried again.

A thread that wakes too late is a sign that this process gets no processor time. What it takes for
the silence of the store is then its own, as the replies may lie here, unread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from agentkit.state.address import PATIENCE
from agentkit.state.line import SLOW, Pending
from agentkit.state.questions import LONGEST_WAIT

TICK: Final = 0.02
"""Seconds between two looks at the connections while a question waits for its reply."""
LATE: Final = 0.05
"""Seconds by which a thread wakes too late if the process gets no processor time."""
LATE_PATIENCE: Final = 1.0
"""Seconds for which a store may be silent while that is so."""
FIRST_PAUSE: Final = 0.05
"""Seconds between two tries to reach a store that was lost within `LONGEST_WAIT`."""

Decision: TypeAlias = Literal["wait", "part", "lost"]


class Patience:
    """Judges a store by its silence, and by how late this process is itself.

    Times are seconds of one clock, which is `time.monotonic` for the others in this package.
    """

    def __init__(self) -> None:
        self._late_at = float("-inf")

    def note_wake(self, due: float, now: float) -> None:
        """A thread that wanted to wake at the time `due` did so `now`."""
        if now > due + LATE:
            self._late_at = now

    def is_late(self, now: float) -> bool:
        """Whether this process got no processor time a moment ago."""
        return now < self._late_at + LATE_PATIENCE

    def is_slow(self, begun: float, now: float) -> bool:
        """Whether a store that took from `begun` until `now` is slow."""
        return now - begun > SLOW and not self.is_late(now)

    def suspects(self, silence: float) -> bool:
        """Whether a connection that is silent for so long has to be looked at with the next tick.

        A thread that has just read may wait for its processor: it gets that tick to say so.
        """
        return silence >= PATIENCE - TICK

    def judge(self, silence: float, left: Sequence[Pending], now: float) -> Decision:
        """What to do about a suspect connection on which the questions `left` wait.

        Those that ask for a retry, and those for which no call waits, get twice the time. All get
        more of it while this process is late itself: then, the callers of the others `part`, which
        means that they get no reply.
        """
        if silence < PATIENCE:
            return "wait"
        is_late = self.is_late(now)
        if silence < (LATE_PATIENCE if is_late else 2 * PATIENCE):
            if is_late or any(each.may_repeat for each in left):
                return "part"
            if not any(each.is_waited_for for each in left):
                return "wait"
        return "lost"

    def pause(self, lost_for: float, heartbeat: float) -> float:
        """Seconds until the next try to reach a store that was lost so many seconds ago.

        Right after the loss, there may still be callers whose time is not up.
        """
        return FIRST_PAUSE if lost_for < LONGEST_WAIT else heartbeat
