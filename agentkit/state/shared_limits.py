"""The limits of a pool that the processes of a fleet share.

One question at a time asks for the calls that wait longest in this process; the reply says which
of them are served, by which key, or when to ask again. While the store is lost, the process decides
alone, by its share; when the store is back, it first says what it took meanwhile.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from agentkit.errors import PoolExhaustedError
from agentkit.policy.limits import Loss, Member, Need, Pool, Waiting
from agentkit.state import quota_questions, weak
from agentkit.state.quota_questions import INTRODUCE, Offer, QuotaKeys
from agentkit.state.quota_window import NOTHING, Amount, SharedWindow, Taken, as_entries
from agentkit.types import Now, Quota, Usage
from agentkit.types.fleet import Fleet, Hear, Question

LONGEST_WAIT: Final = 0.25
"""Seconds after which a question counts as lost, together with the store."""
REFRESH: Final = 20.0
"""Seconds after which limits that a provider reports are passed on again; they hold for 60."""

_SHORTLY: Final = 0.05
"""Seconds until a process that introduces itself looks again, if nothing wakes it."""

_LIMITS: Final = (
    "requests_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "tokens_per_minute",
)

_numbers = itertools.count(1)


class _Asked(NamedTuple):
    """A question for waiting calls, which `members` of the pool may serve."""

    number: int
    server: str
    at: float
    members: Sequence[Member]
    waiting: Sequence[Any]


class _Introduced(NamedTuple):
    """Entries of one window as they are reported: all, and those that were not asked for."""

    server: str
    window: SharedWindow
    everything: Sequence[tuple[Taken, int, Amount]]
    unheard: Sequence[tuple[Taken, int, Amount]]
    is_last: bool


class SharedLimits:
    """What this process knows of the limits that a fleet shares; the `Sharing` of `pool`.

    Args:
        fleet: the processes.
        pool: the pool whose limits they share.
        keys: those of the provider, and of the line of this pool.
        names: a digest of each member: what has the same one shares its limits.
        now: the clock of the pool.
        loss: what holds while the store is lost.
        pause: called with the seconds for which the only member of the pool has to pause.
    """

    def __init__(
        self,
        fleet: Fleet,
        pool: Pool,
        *,
        keys: QuotaKeys,
        names: Sequence[str],
        now: Now,
        loss: Loss,
        pause: Callable[[float], None],
    ) -> None:
        self._fleet = fleet
        self._pool = pool
        self._keys = keys
        self._windows = {
            member: SharedWindow(member, name, loss)
            for member, name in zip(pool.members, names, strict=True)
        }
        self._now = now
        self._loss = loss
        self._pause = pause
        self._number = next(_numbers)
        self._process = ""
        """The process that has subscribed; another one in a forked child."""
        self._server = ""
        """The server that is known to answer; empty: none was reached yet."""
        self._lost = False
        self._introduces = False
        """Whether it says what it took, and therefore takes nothing alone."""
        self._asked: _Asked | None = None
        """The question whose reply is due."""
        self._again_at = float("-inf")
        self._refused: Waiting | None = None
        """The call whose turn was not yet."""
        self._asks_again = False
        """Whether there is room that the question under way may not know of."""
        self.questions = self.granted = self.refused = 0
        self._watch()

    # What the pool asks, under its lock.

    def decides(self, now: float) -> bool:
        """See `Sharing`."""
        if self._lost or not self._limited():
            return False
        if self._asked is not None and now >= self._asked.at + LONGEST_WAIT:
            self._lose()
        return not self._lost

    def is_asking(self, now: float) -> bool:
        """See `Sharing`."""
        return self._asked is not None and self.decides(now)

    def may_ask(self, head: Waiting, now: float) -> bool:
        """See `Sharing`."""
        if self._asked is not None:
            return False
        refused = self._refused
        if refused is None or now >= self._again_at or head.rank < refused.rank:
            return True
        return any(own < other for own, other in zip(head.need, refused.need, strict=True))

    def ask(
        self, free: Sequence[tuple[Member, int, int]], waiting: Sequence[Waiting], now: float
    ) -> Callable[[], None]:
        """See `Sharing`."""
        members = [member for member, _, _ in free]
        asked = self._asked = _Asked(
            next(_numbers), server=self._server, at=now, members=members, waiting=list(waiting)
        )
        self._asks_again = False
        if not self._server:  # the first reply says which one it is, and the pool asks again
            return _nothing
        self.questions += 1
        hear = functools.partial(self._hear, asked)
        question = self._reserve(free, waiting, now)
        return functools.partial(self._post, [*self._settlements(), (question, hear)])

    def wait(self, now: float) -> float:
        """See `Sharing`."""
        if self._asked is not None:
            return max(self._asked.at + LONGEST_WAIT - now, 0.001)
        return max(self._again_at - now, 0.0)

    def allows(self, member: Member, need: Need, now: float) -> bool:
        """See `Sharing`."""
        if not member.window.limited:
            return True
        return not self._introduces and self._windows[member].allows(need, now)

    def wait_alone(self, member: Member, need: Need, now: float) -> float:
        """See `Sharing`."""
        if not member.window.limited:
            return 0.0
        wait = self._windows[member].wait(need, now)
        return max(wait, _SHORTLY) if self._introduces else wait

    def refusal(self, now: float) -> PoolExhaustedError | None:
        """See `Sharing`."""
        if self._loss != "stop" or not self._lost or not self._limited():
            return None
        return PoolExhaustedError(
            f"the store of the fleet is lost, so that the limits of {self._pool.name} are unknown",
            hint="add a fallback, or use on_fleet_loss='share'",
        )

    def take(self, member: Member, need: Need, now: float, bucket: int | None) -> object:
        """See `Sharing`."""
        return self._windows[member].take(need, now, bucket) if member.window.limited else None

    def settle(self, taken: object, usage: Usage | None, *, sent: bool) -> None:
        """See `Sharing`."""
        if isinstance(taken, Taken):
            amount = taken.amount
            if not sent:
                amount = NOTHING
            elif usage is not None:
                amount = (1, max(usage.input_tokens, 0), max(usage.output_tokens, 0))
            taken.window.correct(taken, amount)

    def settle_soon(self) -> None:
        """See `Sharing`."""
        if self._refused is not None and not self._pool.waiting:
            with self._pool.lock:
                self._refused = None
                question = self._reserve([], [], self._now())
            self._fleet.post(question)
        if any(each.unsettled for each in self._windows.values()):
            self._fleet.soon(self._settlements)

    def report_pause(self, member: Member, seconds: float) -> Callable[[], None]:
        """See `Sharing`."""
        return functools.partial(self._report, member, rest=seconds)

    def report_limits(self, member: Member, quota: Quota, now: float) -> Callable[[], None]:
        """See `Sharing`."""
        window = self._windows[member]
        requests, inputs, outputs, both = (getattr(quota, name) or 0 for name in _LIMITS)
        limits = (requests, inputs, outputs, both)
        before, at = window.reported_limits
        if not any(limits) or (limits == before and now < at + REFRESH):
            return _nothing
        window.reported_limits = limits, now
        return functools.partial(self._report, member, lasting=60.0, limits=limits)

    def leave_to_parent(self) -> None:
        """See `Sharing`."""
        self._asked = self._refused = None
        for each in self._windows.values():
            each.leave_to_parent()

    def statistics(self) -> dict[str, Any]:
        """Whether the fleet decides, and counters of this process."""
        return {
            "shared": not self._lost and bool(self._server),
            "processes": max(each.processes for each in self._windows.values()),
            "questions": self.questions,
            "granted": self.granted,
            "refused": self.refused,
        }

    # What is asked, without the lock.

    def _post(self, questions: Sequence[tuple[Question, Hear | None]]) -> None:
        for question, hear in questions:
            self._fleet.post(question, hear)

    def _reserve(
        self, free: Sequence[tuple[Member, int, int]], waiting: Sequence[Waiting], now: float
    ) -> Question:
        if not free:
            free = [(member, 0, 0) for member in self._windows]
        offers = [
            Offer(self._key(member), window.had(now), places, load, window.limits())
            for member, places, load in free
            for window in (self._windows[member],)
        ]
        needs = [(*each.need, int((now - each.rank) * 1000)) for each in waiting]
        alive = self._alive
        return quota_questions.reserve(self._keys, self._asker, alive, offers, needs)

    def _hear(self, asked: _Asked, reply: Any) -> None:
        """The reply to a question, on the thread of the fleet."""
        now = self._now()
        self._pool.update(functools.partial(self._apply, asked, reply, now), now)
        if reply is not None and reply[1] == INTRODUCE and asked.server == self._server:
            self._introduce(now)
        self.settle_soon()

    def _apply(self, asked: _Asked, reply: Any, now: float, wakes: list[Any]) -> None:
        members, waiting = asked.members, asked.waiting
        due = asked is self._asked
        if due:
            self._asked = None
        if reply is None:
            if due:
                self._lose()
                self._pool.refuse(now, wakes)
            return
        bucket, wait, granted, used = reply
        if asked.server != self._server:  # it was asked of a server that no longer counts
            return
        if due:
            if wait == INTRODUCE:
                self._asked = asked
                return
            self._again_at = float("-inf") if self._asks_again else now + wait / 1000
            self._refused = waiting[len(granted)] if wait and len(granted) < len(waiting) else None
            self.refused += self._refused is not None
        for lease, number in zip(waiting, granted, strict=False):
            member = members[number - 1]
            self.granted += 1
            if not self._pool.serve(lease, member, now, bucket, wakes):
                window = self._windows[member]
                window.correct(window.take(lease.need, now, bucket), NOTHING)
        for number, member in enumerate(members):
            requests, inputs, outputs = used[3 * number : 3 * number + 3]
            self._windows[member].see_sum((requests, inputs, outputs), now)

    def _settlements(self) -> list[tuple[Question, Hear | None]]:
        """What the store should know of calls that have ended."""
        found: list[tuple[Question, Hear | None]] = []
        with self._pool.lock:
            for member, window in self._windows.items():
                if window.unsettled and self._server:
                    changes, before = window.to_settle()
                    if changes:
                        question = quota_questions.settle(self._keys, self._key(member), changes)
                        hear = functools.partial(self._hear_settled, window, before)
                        found.append((question, hear))
        return found

    def _hear_settled(self, window: SharedWindow, before: Any, reply: Any) -> None:
        if reply is None:
            self._pool.update(lambda _: window.settle_again(before), self._now())

    def _report(self, member: Member, **what: Any) -> None:
        if self._server:
            name, alive = self._windows[member].name, self._alive
            self._fleet.post(
                quota_questions.report(self._keys, name, self._key(member), alive=alive, **what)
            )

    # What the fleet says, on its threads.

    def _watch(self) -> None:
        """Ask for the state of the members now, and with each heartbeat."""
        weak.ask_at_heartbeat(self._fleet, self._questions)
        self._post(self._questions())
        for member, window in self._windows.items():
            hear = functools.partial(self._hear_pause, member)
            self._fleet.post(quota_questions.pause(self._keys, window.name), hear)

    def _questions(self) -> list[tuple[Question, Hear | None]]:
        return [(self._question(), self._hear_watch)]

    def _question(self) -> Question:
        self._subscribe()
        now = self._now()
        with self._pool.lock:
            had = [each.had(now) for each in self._windows.values()]
        members = [self._key(member) for member in self._windows]
        return quota_questions.watch(members, self._asker, self._server, self._alive, had)

    def _subscribe(self) -> None:
        if self._process == self._fleet.process:
            return
        self._process = self._fleet.process
        topics = [self._keys.topic(each.name) for each in self._windows.values()]
        for topic in (self._keys.line, *topics):
            weak.subscribe(self._fleet, topic, self._receive)

    def _hear_watch(self, reply: Any) -> None:
        now = self._now()
        if reply is None:
            self._lose_all()
            return
        server, *rows = reply
        name = server.decode()
        if name != self._server:
            self._pool.update(lambda _: self._move_to(name), now)
            self._fleet.post(self._question(), self._hear_watch)
            return
        if not rows:
            return
        for window, (_, rest, _, lasting, *numbers) in zip(
            self._windows.values(), rows, strict=True
        ):
            self._note(window.member, rest, numbers[:4] if lasting else [0] * 4, now)
        with self._pool.lock:
            for window, row in zip(self._windows.values(), rows, strict=True):
                window.see(row[8], row[9:], now, is_complete=not row[2])
            unheard = any(each.to_introduce(now)[1] for each in self._windows.values())
        if unheard or any(unknown for unknown, *_ in rows):
            self._introduce(now)
        elif self._lost:
            self._come_back()
        else:
            self._look(now)

    def _introduce(self, now: float) -> None:
        """Say what this process took; the reply to the last one brings back the fleet."""
        questions: list[tuple[Question, Hear | None]] = []
        with self._pool.lock:
            self._introduces = True
            for member, window in self._windows.items():
                entries, missing = window.to_introduce(now)
                introduced = _Introduced(
                    self._server,
                    window,
                    everything=as_entries(entries, now),
                    unheard=as_entries(missing, now),
                    is_last=len(questions) == len(self._windows) - 1,
                )
                question = quota_questions.introduce(
                    self._key(member),
                    self._asker,
                    [(age, *amount) for _, age, amount in introduced.everything],
                    [(age, *amount) for _, age, amount in introduced.unheard],
                )
                questions.append((question, functools.partial(self._hear_introduced, introduced)))
        self._post(questions)

    def _hear_introduced(self, introduced: _Introduced, reply: Any) -> None:
        if reply is None:
            self._lose_all()
        elif introduced.server == self._server:
            bucket, was_unknown = reply
            entries = introduced.everything if was_unknown else introduced.unheard
            with self._pool.lock:
                introduced.window.introduced(entries, bucket)
            if introduced.is_last:
                self._come_back()

    def _receive(self, topic: str, message: bytes) -> None:
        """A message: there is room, or what another process heard from a provider."""
        now = self._now()
        report = quota_questions.read_report(message)
        if report is not None:
            for window in self._windows.values():
                if self._keys.topic(window.name) == topic:
                    self._note(window.member, report.pause, report.limits, now)
        self._look(now)

    def _hear_pause(self, member: Member, milliseconds: Any) -> None:
        if milliseconds:
            self._note(member, milliseconds, (), self._now())

    def _look(self, now: float) -> None:
        """Ask again now: there may be room."""

        def change(_wakes: object) -> None:
            self._asks_again = True
            self._again_at = float("-inf")

        if self._pool.waiting:
            self._pool.update(change, now)

    def _note(self, member: Member, rest: int, limits: Sequence[int], now: float) -> None:
        """Apply what another process learned from the provider: milliseconds, and limits."""

        def change(wakes: list[Any]) -> None:
            if rest and len(self._windows) > 1:
                member.available_at = max(member.available_at, now + rest / 1000)
            if quota is not None and member.window.learn(quota, now):
                self._pool.refuse(now, wakes)

        quota = None
        if any(limits):
            quota = Quota(**dict(zip(_LIMITS, (each or None for each in limits), strict=True)))
        if rest and len(self._windows) == 1:
            self._pause(rest / 1000)
        if rest or quota is not None:
            self._pool.update(change, now)

    # State.

    @property
    def _alive(self) -> int:
        """Processes that may have taken something: after a loss, the store itself knows of none."""
        return max(self._fleet.processes, *(each.processes for each in self._windows.values()))

    @property
    def _asker(self) -> str:
        return f"{self._fleet.process}:{self._number}"

    def _key(self, member: Member) -> tuple[str, str]:
        return self._keys.member(self._windows[member].name, self._server)

    def _limited(self) -> bool:
        return any(member.window.limited for member in self._windows)

    def _lose(self) -> None:
        self._lost, self._introduces = True, False
        self._asked = self._refused = None

    def _lose_all(self) -> None:
        now = self._now()

        def change(wakes: list[Any]) -> None:
            self._lose()
            self._pool.refuse(now, wakes)

        self._pool.update(change, now)

    def _move_to(self, server: str) -> None:
        """Another server answers, which has counted nothing."""
        self._server, self._introduces = server, False
        self._asked = self._refused = None
        self._again_at = float("-inf")
        for each in self._windows.values():
            each.forget_counted()

    def _come_back(self) -> None:
        def change(_wakes: object) -> None:
            self._lost = self._introduces = False
            self._asked = None
            self._again_at = float("-inf")

        self._pool.update(change, self._now())


def _nothing() -> None:
    """There is nothing to report."""
