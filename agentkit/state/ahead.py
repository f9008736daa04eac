"""Places of shared limits that a process has taken ahead of its calls; see `agentkit.state.pace`.

No clock, no thread: the pool that has them is locked around them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from agentkit.policy.limits import Member, Need
from agentkit.state.quota_window import NOTHING, Taken


class Place(NamedTuple):
    """A place of a key that no call uses yet."""

    taken: Taken
    until: float
    """When it is given back."""
    born: int
    """When the store's window began that has counted it."""


class Places:
    """Places that were taken ahead, the oldest first."""

    def __init__(self) -> None:
        self._places: deque[Place] = deque()

    def __len__(self) -> int:
        return len(self._places)

    def add(self, takens: Iterable[Taken], until: float) -> None:
        """Keep places until then."""
        self._places.extend(Place(each, until, each.window.born) for each in takens)

    def use(self, need: Need, now: float) -> tuple[Member, Taken] | None:
        """A place that suffices for `need`, of a member that can serve a call now."""
        self.expire(now)
        places = self._places
        for index, (taken, _, born) in enumerate(places):
            window = taken.window
            _, inputs, outputs = taken.amount
            if (
                need.input_tokens <= inputs
                and need.output_tokens <= outputs
                and born == window.born
                and window.member.places(now)
            ):
                del places[index]
                window.use(taken, need)
                return window.member, taken
        return None

    def expire(self, now: float) -> None:
        """Give back what is too old."""
        places = self._places
        while places and places[0].until <= now:
            _give_back(places.popleft())

    def give_back(self, member: Member | None = None) -> None:
        """Give back those of `member`, or all."""
        kept: list[Place] = []
        for each in self._places:
            if member is None or each.taken.window.member is member:
                _give_back(each)
            else:
                kept.append(each)
        self._places = deque(kept)

    def clear(self) -> None:
        """Forget them: they are those of the parent of this process."""
        self._places.clear()


def _give_back(place: Place) -> None:
    place.taken.window.correct(place.taken, NOTHING)
