"""The limits of a pool that the processes of a fleet share.

One question at a time asks for the calls that wait longest in this process; the reply says which
of them are served, by which key, or when to ask again. A process is in one of these states:

- *asking*: the store answers, and decides;
- *silent*: a reply is missing. Nothing is taken. If the store answers again within `LONGEST_WAIT`,
  the process asks again. While the connection works, it is the process that is late, and it waits
  on for `LONGEST_DELAY`;
- *lost*: it decides alone, by its share, but takes nothing before the end of a hold: after a loss,
  the store grants nothing until all processes have reported what they took, and a process that
  lost it meanwhile takes nothing either;
- *introducing*: the store is back or has lost what it knew. The process says what it took, and
  takes nothing until that is counted.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from agentkit.errors import PoolExhaustedError
from agentkit.policy.limits import Member, Need, OnLoss, Pool, Waiting
from agentkit.state import quota_questions, weak
from agentkit.state.ahead import Places
from agentkit.state.pace import NONE, SEND_WITHIN, Ahead, Pace
from agentkit.state.questions import LONGEST_WAIT
from agentkit.state.quota_questions import (
    INTRODUCE,
    LONGEST_HOLD_MS,
    MemberState,
    Offer,
    QuotaKeys,
    Reserved,
    Watched,
)
from agentkit.state.quota_window import NOTHING, Amount, SharedWindow, Taken, as_entries
from agentkit.types import Now, Quota, Usage
from agentkit.types.fleet import Fleet, Hear, Question

LONGEST_DELAY: Final = 2.0
"""Seconds after which a question counts as lost, together with the store, if the connection works,
so that the process itself seems to be late; else `LONGEST_WAIT`."""
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
    ahead: Ahead


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
        on_loss: what may be taken while the store is lost.
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
        on_loss: OnLoss,
        pause: Callable[[float], None],
    ) -> None:
        self._fleet = fleet
        self._pool = pool
        self._keys = keys
        self._windows = {
            member: SharedWindow(member, name, on_loss)
            for member, name in zip(pool.members, names, strict=True)
        }
        self._now = now
        self._on_loss = on_loss
        self._pause = pause
        self._number = next(_numbers)
        self._process = ""
        """The process that has subscribed; another one in a forked child."""
        self._server = ""
        """The server that is known to answer; empty: none was reached yet."""
        self._lost = False
        self._silent_since: float | None = None
        """When a reply was missing first."""
        self._looked_at = self._late_at = float("-inf")
        """When the queue was looked at last, and last was too late."""
        self._still_until = float("-inf")
        """The end of a hold, before which nothing is taken alone."""
        self._introduces = False
        """Whether it says what it took, and therefore takes nothing alone."""
        self._reports = False
        """Whether what it took is on its way to the store, which must not count it twice."""
        self._asked: _Asked | None = None
        """The question whose reply is due."""
        self._again_at = float("-inf")
        self._refused: Waiting | None = None
        """The call whose turn was not yet."""
        self._stands_behind = False
        """Whether it was refused although there was room, as another process is first."""
        self._asks_again = False
        """Whether there is room that the question under way may not know of."""
        self._pace = Pace()
        self._places = Places()
        """Places that were taken ahead."""
        self.questions = self.settlements = self.granted = self.ahead = self.refused = 0
        self._watch()

    # What the pool asks, under its lock.

    def decides(self, now: float) -> bool:
        """See `Sharing`."""
        if self._lost or not self._limited():
            return False
        since = self._silence(now)
        if since is not None:
            if (
                not self._fleet.lost_for
                and now > max(self._looked_at, since) + LONGEST_WAIT + SEND_WITHIN
            ):
                since = self._late_at = now  # the reply may be there, unread
            if now >= since + self._patience():
                self._lose()
        self._looked_at = now
        return not self._lost

    def is_asking(self, now: float) -> bool:
        """See `Sharing`."""
        return self._silence(now) is not None and self.decides(now)

    def may_ask(self, head: Waiting, now: float) -> bool:
        """See `Sharing`."""
        if self._asked is not None:
            return False
        if self._silent_since is not None:
            return self._fleet.is_up and now >= self._again_at
        refused = self._refused
        if refused is None or now >= self._again_at or head.rank < refused.rank:
            return True
        return any(own < other for own, other in zip(head.need, refused.need, strict=True))

    def use_ahead(self, need: Need, now: float) -> tuple[Member, object] | None:
        """See `Sharing`."""
        if not self._places:
            return None
        found = self._places.use(need, now)
        if found is not None:
            self._pace.note(now, *need)
            self.granted += 1
            self.ahead += 1
        return found

    def ask(
        self, free: Sequence[tuple[Member, int, int]], waiting: Sequence[Waiting], now: float
    ) -> Callable[[], None]:
        """See `Sharing`."""
        members = [member for member, _, _ in free]
        asked = self._asked = _Asked(
            next(_numbers),
            server=self._server,
            at=now,
            members=members,
            waiting=list(waiting),
            ahead=self._expect(now),
        )
        self._asks_again = False
        if not self._server:  # the first reply says which one it is, and the pool asks again
            return _nothing
        self.questions += 1
        hear = functools.partial(self._hear, asked)
        question = self._reserve(free, waiting, now, asked.ahead)
        return functools.partial(self._post, [*self._settlements(), (question, hear)])

    def wait(self, now: float) -> float:
        """See `Sharing`."""
        since = self._silence(now)
        if since is None:
            return max(self._again_at - now, 0.0)
        wait = since + LONGEST_WAIT - now
        if wait <= 0:
            return _SHORTLY
        return wait if self._asked is not None else min(wait, _SHORTLY)

    def allows(self, member: Member, need: Need, now: float) -> bool:
        """See `Sharing`."""
        if not member.window.limited:
            return True
        is_still = self._introduces or now < self._still_until
        return not is_still and self._windows[member].allows(need, now)

    def wait_alone(self, member: Member, need: Need, now: float) -> float:
        """See `Sharing`."""
        if not member.window.limited:
            return 0.0
        wait = max(self._windows[member].wait(need, now), self._still_until - now)
        return max(wait, _SHORTLY) if self._introduces else wait

    def refusal(self, now: float) -> PoolExhaustedError | None:
        """See `Sharing`."""
        if self._on_loss != "stop" or not self._lost or not self._limited():
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
        if any(each.is_unsettled for each in self._windows.values()):
            self._fleet.soon(self._settlements)

    def report_pause(self, member: Member, seconds: float) -> Callable[[], None]:
        """See `Sharing`."""
        self._places.give_back(member)
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
        self._places.give_back(member)
        return functools.partial(self._report, member, lasting=60.0, limits=limits)

    def leave_to_parent(self) -> None:
        """See `Sharing`."""
        self._reports = False
        self._asked = self._refused = self._silent_since = None
        self._places.clear()
        for each in self._windows.values():
            each.leave_to_parent()

    def statistics(self) -> dict[str, Any]:
        """Whether the fleet decides, and counters of this process."""
        return {
            "shared": not self._lost and bool(self._server),
            "processes": max(each.processes for each in self._windows.values()),
            "questions": self.questions,
            "settlements": self.settlements,
            "granted": self.granted,
            "ahead": self.ahead,
            "refused": self.refused,
        }

    def close(self) -> None:
        """Give back what was taken ahead, and report what was settled."""
        with self._pool.lock:
            self._places.give_back()
        self._post(self._settlements())

    # What is asked, without the lock.

    def _post(self, questions: Sequence[tuple[Question, Hear | None]]) -> None:
        for question, hear in questions:
            self._fleet.post(question, hear)

    def _expect(self, now: float) -> Ahead:
        """The calls for which to take places ahead, beside those that are left."""
        expected = self._pace.expect(now)
        if not expected.calls:
            return expected
        self._places.expire(now)
        calls = expected.calls - len(self._places)
        return expected._replace(calls=calls) if calls > 0 else NONE

    def _reserve(
        self,
        free: Sequence[tuple[Member, int, int]],
        waiting: Sequence[Waiting],
        now: float,
        ahead: Ahead = NONE,
    ) -> Question:
        if not free:
            free = [(member, 0, 0) for member in self._windows]
        offers = [
            Offer(
                self._key(member),
                had=window.had(now),
                users=window.processes,
                free=places,
                load=load,
                limits=window.limits(),
            )
            for member, places, load in free
            for window in (self._windows[member],)
        ]
        needs = [(*each.need, int((now - each.rank) * 1000)) for each in waiting]
        return quota_questions.reserve(
            self._keys, self._asker, self._server, offers, needs, ahead=ahead
        )

    def _hear(self, asked: _Asked, reply: Any) -> None:
        """The reply to a question, on the thread of the fleet."""
        now = self._now()
        reserved = None if reply is None else Reserved(*reply)
        self._pool.update(functools.partial(self._apply, asked, reserved, now), now)
        is_unknown = reserved is not None and reserved.wait == INTRODUCE
        if is_unknown and asked.server == self._server:
            self._introduce(now)
        if self._places:
            self._fleet.soon(self._give_back, SEND_WITHIN)
        self.settle_soon()

    def _apply(
        self, asked: _Asked, reserved: Reserved | None, now: float, wakes: list[Any]
    ) -> None:
        due = asked is self._asked
        if reserved is None:
            if due:
                self._again_at = now + _SHORTLY
                self._fall_silent(now)
            return
        self._silent_since = None
        wait = reserved.wait
        if wait == INTRODUCE:
            self._still_until = max(self._still_until, now + LONGEST_HOLD_MS / 1000)
        elif due:
            self._asked = None
        # A server that no longer counts, and a process that it does not know, have granted nothing.
        if asked.server != self._server or wait == INTRODUCE:
            return
        self._serve(asked, reserved, now, wakes)
        if due:
            self._again_at = float("-inf") if self._asks_again else now + wait / 1000
            left = asked.waiting[len(reserved.granted) :]
            self._refused = left[0] if wait and left else None
            if self._refused is not None:
                self._places.give_back()
                self.refused += 1
                self._stands_behind = self._has_room(self._refused)

    def _serve(self, asked: _Asked, reserved: Reserved, now: float, wakes: list[Any]) -> None:
        """Serve the calls that a reply grants, and note what the keys have counted."""
        bucket, states, ahead = reserved.bucket, reserved.states, reserved.ahead
        delay = now - asked.at
        late = math.ceil(delay) if delay > SEND_WITHIN else 0
        for lease, number in zip(asked.waiting, reserved.granted, strict=False):
            member = asked.members[number - 1]
            window = self._windows[member]
            counted = bucket if window.knows(states[number - 1][4]) else None
            self.granted += 1
            self._pace.note(now, *lease.need)
            if late and counted is not None:  # it leaves only now
                window.move(lease.need, counted, counted + late)
                counted += late
            if not self._pool.serve(lease, member, now, counted, wakes):
                window.correct(window.take(lease.need, now, counted), NOTHING)
        if any(ahead):
            self._keep(asked, bucket, zip(asked.members, ahead, states, strict=True))
        for member, state in zip(asked.members, states, strict=True):
            requests, inputs, outputs, unsure, born = state
            if unsure:
                self._still_until = max(self._still_until, now + unsure / 1000)
            elif self._windows[member].knows(born):
                self._windows[member].see_sum((requests, inputs, outputs), now)

    def _keep(
        self, asked: _Asked, bucket: int, ahead: Iterable[tuple[Member, int, Sequence[int]]]
    ) -> None:
        """Keep the places that a reply grants ahead, those of several members by turns."""
        need, until = Need(*asked.ahead[1:]), asked.at + SEND_WITHIN
        turns = [
            (turn, self._windows[member])
            for member, count, state in ahead
            if self._windows[member].knows(state[4])
            for turn in range(count)
        ]
        turns.sort(key=itemgetter(0))
        self._places.add((window.take(need, until, bucket) for _, window in turns), until)

    def _give_back(self) -> list[tuple[Question, Hear | None]]:
        """Give back what was taken ahead and is too old, and see to the rest later."""
        found = self._settlements()
        if self._places:
            self._fleet.soon(self._give_back, SEND_WITHIN)
        return found

    def _settlements(self) -> list[tuple[Question, Hear | None]]:
        """What the store should know of calls that have ended."""
        found: list[tuple[Question, Hear | None]] = []
        with self._pool.lock:
            self._places.expire(self._now())
            if self._introduces or not self._server:  # the store may not have what is corrected
                return found
            for member, window in self._windows.items():
                if window.is_unsettled:
                    changes, before = window.to_settle()
                    if changes:
                        question = quota_questions.settle(
                            self._keys, self._key(member), window.born, changes
                        )
                        self.settlements += 1
                        hear = functools.partial(self._hear_settled, window, before)
                        found.append((question, hear))
        return found

    def _hear_settled(self, window: SharedWindow, before: Any, reply: Any) -> None:
        if reply is None:
            self._pool.update(lambda _: window.settle_again(before), self._now())

    def _report(self, member: Member, **what: Any) -> None:
        if self._server:
            name = self._windows[member].name
            report = quota_questions.report(
                self._keys, name, self._key(member), self._server, **what
            )
            self._fleet.post(report)

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
            members = [
                Watched(self._key(member), had=each.had(now), users=each.processes)
                for member, each in self._windows.items()
            ]
        return quota_questions.watch(
            self._keys, self._asker, self._server, self._fleet.mark, members
        )

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
            self._pool.update(lambda _: self._fall_silent(now), now)
            return
        server, *rows = reply
        name = server.decode()
        if name != self._server:
            self._pool.update(lambda _: self._move_to(name), now)
            self._fleet.post(self._question(), self._hear_watch)
            return
        if not rows:
            return
        states = [MemberState.of(row) for row in rows]
        seen = list(zip(self._windows.values(), states, strict=True))
        for window, state in seen:
            self._note(window.member, state.pause, state.limits, now)
        with self._pool.lock:
            is_new = any(window.born not in (0, state.born) for window, state in seen)
            for window, state in seen:
                window.born = state.born
                window.see(state.processes, state.buckets, now, is_complete=not state.unsure)
            unheard = any(window.to_introduce(now)[1] for window, _ in seen)
            is_unknown = any(state.is_unknown for state in states)
            introduces = unheard or is_unknown
            self._introduces |= introduces
            hold = LONGEST_HOLD_MS if is_unknown else max(state.unsure for state in states)
            self._still_until = now + hold / 1000
        if introduces:
            self._introduce(now)
        elif self._lost or self._silent_since is not None:
            self._come_back()
        elif is_new or self._missed_room():  # the store has lost the line, too
            self._look(now)

    def _introduce(self, now: float) -> None:
        """Say what this process took; the reply to the last one brings back the fleet."""
        questions: list[tuple[Question, Hear | None]] = []
        with self._pool.lock:
            self._introduces = True
            if self._reports:
                return
            self._reports = True
            self._places.give_back()
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
                    self._keys,
                    self._key(member),
                    self._asker,
                    self._server,
                    entries=[(age, *amount) for _, age, amount in introduced.everything],
                    missing=[(age, *amount) for _, age, amount in introduced.unheard],
                )
                questions.append((question, functools.partial(self._hear_introduced, introduced)))
        self._post(questions)

    def _hear_introduced(self, introduced: _Introduced, reply: Any) -> None:
        now = self._now()
        if introduced.is_last and introduced.server == self._server:
            self._reports = False
        if reply is None:
            self._pool.update(lambda _: self._fall_silent(now), now)
        elif introduced.server == self._server:
            bucket, was_unknown, born = reply
            entries = introduced.everything if was_unknown else introduced.unheard
            with self._pool.lock:
                introduced.window.born = born
                introduced.window.introduced(entries, bucket)
            if introduced.is_last:
                self._come_back()

    def _receive(self, topic: str, message: bytes) -> None:
        """A message: when there is room, or what another process heard from a provider."""
        now = self._now()
        report = quota_questions.read_report(message)
        if report is not None:
            for window in self._windows.values():
                if self._keys.topic(window.name) == topic:
                    self._note(window.member, report.pause, report.limits, now)
        self._look(now, after=quota_questions.read_room(message) or 0.0)

    def _hear_pause(self, member: Member, milliseconds: Any) -> None:
        if milliseconds:
            self._note(member, milliseconds, (), self._now())

    def _missed_room(self) -> bool:
        """Whether there seems to be room for the first call: the message of it may be lost."""
        call = self._refused
        return call is not None and not self._stands_behind and self._has_room(call)

    def _has_room(self, call: Waiting) -> bool:
        """Whether a key had room for `call` when its window was seen last."""
        return self._still_until <= self._now() and any(
            each.has_room(call.need) for each in self._windows.values()
        )

    def _look(self, now: float, after: float = 0.0) -> None:
        """Ask again `after` some seconds: there may be room then."""

        def change(_wakes: object) -> None:
            self._asks_again = not after
            self._again_at = now + after

        if self._pool.waiting:
            self._pool.update(change, now)

    def _note(self, member: Member, rest: int, limits: Sequence[int], now: float) -> None:
        """Apply what another process learned from the provider: milliseconds, and limits."""

        def change(wakes: list[Any]) -> None:
            if rest and len(self._windows) > 1:
                member.available_at = max(member.available_at, now + rest / 1000)
            if quota is not None and member.window.learn(quota, now):
                self._pool.refuse_hopeless(now, wakes)

        quota = None
        if any(limits):
            quota = Quota(**dict(zip(_LIMITS, (each or None for each in limits), strict=True)))
        if rest or quota is not None:
            with self._pool.lock:
                self._places.give_back(member)
        if rest and len(self._windows) == 1:
            self._pause(rest / 1000)
        if rest or quota is not None:
            self._pool.update(change, now)

    # State.

    @property
    def _asker(self) -> str:
        return f"{self._fleet.process}:{self._number}"

    def _key(self, member: Member) -> tuple[str, str]:
        return self._keys.member(self._windows[member].name, self._server)

    def _limited(self) -> bool:
        return any(member.window.limited for member in self._windows)

    def _silence(self, now: float) -> float | None:
        """Since when a reply is due, or since when the store is lost, which all pools wait for."""
        since = self._silent_since
        if since is None:
            if self._asked is None:
                return None
            since = self._asked.at
        since = max(since, self._late_at)
        lost_for = self._fleet.lost_for
        return min(since, now - lost_for) if lost_for else since

    def _patience(self) -> float:
        return LONGEST_DELAY if self._fleet.is_up else LONGEST_WAIT

    def _fall_silent(self, since: float) -> None:
        if self._asked is not None:
            since, self._asked = self._asked.at, None
        if self._lost:  # it cannot say what it took, and decides alone as before
            self._introduces = False
        elif self._silent_since is None:
            self._silent_since = since

    def _lose(self) -> None:
        self._lost, self._introduces = True, False
        self._places.give_back()
        self._asked = self._refused = self._silent_since = None

    def _move_to(self, server: str) -> None:
        """Another server answers, which has counted nothing."""
        if self._server:
            self._still_until = self._now() + LONGEST_HOLD_MS / 1000
        self._server, self._introduces, self._reports = server, False, False
        self._places.give_back()
        self._asked = self._refused = self._silent_since = None
        self._again_at = float("-inf")
        for each in self._windows.values():
            each.forget_counted()

    def _come_back(self) -> None:
        def change(_wakes: object) -> None:
            self._lost = self._introduces = False
            self._asked = self._silent_since = None
            self._again_at = float("-inf")

        self._pool.update(change, self._now())
        self.settle_soon()


def _nothing() -> None:
    """There is nothing to report."""
