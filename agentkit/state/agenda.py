"""The questions that a process asks on its own, with each heartbeat or a moment later."""

from __future__ import annotations

import math

from agentkit._fork import fork_safe_lock
from agentkit.types.fleet import MakeQuestions, Question


class Agenda:
    """The questions that the thread of a fleet asks, and when."""

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._leads: dict[Question, Question] = {}
        """What renews each lead, with what releases it."""
        self._rounds: dict[MakeQuestions, None] = {}
        self._soon: dict[MakeQuestions, float] = {}
        """With the time at which to ask it."""
        self.due = math.inf
        """When the first of `soon` is due, on the clock of its callers."""

    @property
    def leads(self) -> list[Question]:
        """What renews the leads of this process, with each heartbeat."""
        with self._lock:
            return list(self._leads)

    @property
    def releases(self) -> list[Question]:
        """What releases the leads of this process, when it ends before them."""
        with self._lock:
            return list(self._leads.values())

    @property
    def rounds(self) -> list[MakeQuestions]:
        """What makes other questions for each heartbeat."""
        with self._lock:
            return list(self._rounds)

    def lead(self, question: Question, release: Question) -> None:
        """Ask `question` with each heartbeat, and `release` at the end of this process."""
        with self._lock:
            self._leads[question] = release

    def stop_leading(self, question: Question) -> None:
        """Forget `question`."""
        with self._lock:
            self._leads.pop(question, None)

    def at_heartbeat(self, make: MakeQuestions) -> None:
        """With each heartbeat, ask what `make` returns."""
        with self._lock:
            self._rounds[make] = None

    def stop_at_heartbeat(self, make: MakeQuestions) -> None:
        """Forget `make`."""
        with self._lock:
            self._rounds.pop(make, None)

    def soon(self, make: MakeQuestions, at: float) -> bool:
        """Ask what `make` returns at the time `at`, once. Returns whether nothing is due before."""
        with self._lock:
            if self._soon.get(make, math.inf) <= at:
                return False
            self._soon[make] = at
            is_first = at < self.due
            if is_first:
                self.due = at
            return is_first

    def take(self, now: float) -> list[MakeQuestions]:
        """What `soon` has to be asked by now, which is then forgotten."""
        with self._lock:
            makes = [make for make, at in self._soon.items() if at <= now]
            for make in makes:
                del self._soon[make]
            self.due = min(self._soon.values(), default=math.inf)
        return makes

    def leave_to_parent(self) -> None:
        """In a forked child: the leads, and what is to be asked soon, are the parent's."""
        self._leads, self._soon, self.due = {}, {}, math.inf
