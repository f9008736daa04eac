"""The functions over shared state in this process.

They define what the scripts in `agentkit/state/lua` do: both return the same replies to the same
questions at the same times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from agentkit.state.local_breakers import LocalBreakers
from agentkit.state.local_budgets import LocalBudgets
from agentkit.state.local_marks import LocalMarks
from agentkit.state.local_quota import LocalQuota
from agentkit.state.questions import LEAD
from agentkit.types.fleet import Question


class _Answer(NamedTuple):
    data: bytes
    until: int


class _Shared:
    """The state of a shared call."""

    def __init__(self, holder: str, until: int, forgotten: int) -> None:
        self.holder = holder
        self.until = until
        self.forgotten = forgotten
        self.waiting: dict[str, None] = {}


class LocalState:
    """Shared state in memory.

    Args:
        now: the time in milliseconds.
        publish: gets the channel and the bytes of each message.
    """

    def __init__(self, now: Callable[[], int], publish: Callable[[str, bytes], None]) -> None:
        self._now = now
        self._publish = publish
        self._live: dict[str, int] = {}
        self._answers: dict[str, _Answer] = {}
        self._shared: dict[str, _Shared] = {}
        self._marks = LocalMarks(now)
        self.quota = LocalQuota(now, publish, self._marks)
        self._families: dict[str, LocalBreakers | LocalBudgets | LocalQuota] = {
            "breaker": LocalBreakers(now, publish),
            "budget": LocalBudgets(now, self._marks),
            "quota": self.quota,
        }

    def ask(self, question: Question) -> Any:
        """The reply to `question`."""
        family, _, _ = question.function.partition("_")
        home: object = self._families.get(family, self)
        function: Callable[..., Any] = getattr(home, question.function)
        return function(*question.keys, *question.args)

    def flush(self) -> None:
        """Lose everything."""
        self._live.clear()
        self._answers.clear()
        self._shared.clear()
        self._marks.flush()
        for each in self._families.values():
            each.flush()

    def beat(self, _live: str, mark: str, process: str, alive: int, known: int) -> list[int]:
        """See `agentkit.state.questions.beat`."""
        now = self._now()
        self._live[process] = now + alive
        self._live = {name: until for name, until in self._live.items() if until > now}
        return [len(self._live), now, self._marks.read(mark, known)]

    def leave(self, _live: str, process: str) -> int:
        """See `agentkit.state.questions.leave`."""
        return 0 if self._live.pop(process, None) is None else 1

    def shared_claim(
        self, answer: str, call: str, holder: str, inbox: str, lease: int
    ) -> bytes | int:
        """See `agentkit.state.questions.shared_claim`."""
        now = self._now()
        known = self._answers.get(answer)
        if known is not None and known.until > now:
            return known.data
        shared = self._alive(call)
        if shared is not None and shared.holder != holder and shared.until > now:
            shared.waiting[inbox] = None
            return shared.until - now
        if shared is None:
            shared = self._shared[call] = _Shared(holder, now, now)
        shared.holder, shared.until, shared.forgotten = holder, now + lease, now + 10 * lease
        return LEAD

    def shared_renew(self, call: str, holder: str, lease: int) -> int:
        """See `agentkit.state.questions.shared_renew`."""
        now, shared = self._now(), self._alive(call)
        if shared is None or shared.holder != holder:
            return 0
        shared.until, shared.forgotten = now + lease, now + 10 * lease
        return 1

    def shared_complete(
        self,
        answer: str,
        call: str,
        holder: str,
        outcome: str,
        data: bytes,
        ttl: int,
        channels: str,
        largest: int,
    ) -> int:
        """See `agentkit.state.questions.shared_complete`."""
        shared = self._alive(call)
        leads = shared is not None and shared.holder == holder
        if not leads and outcome != "answer":
            return -1
        if outcome == "answer":
            self._answers[answer] = _Answer(data, self._now() + ttl)
        sent = data if len(data) <= largest else b""
        waiting = [] if shared is None else list(shared.waiting)
        for inbox in waiting:
            self._publish(f"{channels}{inbox}", b"\n".join((f"{call}\n{outcome}".encode(), sent)))
        self._shared.pop(call, None)
        return len(waiting) if leads else -1

    def _alive(self, call: str) -> _Shared | None:
        shared = self._shared.get(call)
        return None if shared is None or shared.forgotten <= self._now() else shared
