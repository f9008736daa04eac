"""The functions about shared quota in this process.

See `agentkit.state.quota_questions` for what they do, and `agentkit.state.local`.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agentkit.state.local_marks import LocalMarks
from agentkit.state.local_members import Member, bucket_of, exceeds, stricter
from agentkit.state.quota_questions import (
    GRACE_MS,
    HOLD_MS,
    KEPT_MS,
    LONGEST_HOLD_MS,
    RETURNED_MS,
    SPAN,
    TOGETHER_MS,
)
from agentkit.types.fleet import Argument


class _Line:
    """The askers that wait for room, and the one whose turn it is."""

    def __init__(self) -> None:
        self.ranks: dict[str, int] = {}
        """Since when the first call of each asker waits; earlier with priority."""
        self.needs: dict[str, tuple[int, int]] = {}
        """The input and output tokens of that call."""
        self.who = ""
        """Whose turn it is."""
        self.until = 0
        """When that turn ends."""
        self.is_informed = False
        """Whether that asker knows that there is room."""

    @property
    def first(self) -> str | None:
        """The asker that waits longest."""
        order = sorted((rank, name) for name, rank in self.ranks.items())
        return order[0][1] if order else None

    def rank_of_others(self, who: str) -> float:
        """The rank of the first asker that is not `who`; infinite if there is none."""
        return min((rank for name, rank in self.ranks.items() if name != who), default=math.inf)

    def stand(self, who: str, rank: int, need: Sequence[int]) -> None:
        self.ranks[who], self.needs[who] = rank, (need[0], need[1])

    def leave(self, who: str) -> None:
        self.ranks.pop(who, None)
        self.needs.pop(who, None)

    def end_turn(self, who: str) -> None:
        """Leave it, also as the first."""
        self.leave(who)
        if self.who == who:
            self.who = ""


class _Offered:
    """A member that an asker can use."""

    def __init__(self, member: Member, offer: Sequence[int]) -> None:
        had, self.users, self.free, self.load, *own = offer
        self.member = member
        self.serves, self.ahead = self.free > 0, 0
        self.had = bool(had)
        self.limits = [stricter(*pair) for pair in zip(own, member.learned, strict=True)]


class LocalQuota:
    """Shared quota in memory.

    Args:
        now: the time in milliseconds.
        publish: gets the channel and the bytes of each message.
        marks: since when the server remembers everything.
    """

    def __init__(
        self,
        now: Callable[[], int],
        publish: Callable[[str, bytes], None],
        marks: LocalMarks,
    ) -> None:
        self._now = now
        self._publish = publish
        self._marks = marks
        self._members: dict[str, Member] = {}
        self._lines: dict[str, _Line] = {}
        self._pauses: dict[str, int] = {}

    @property
    def server(self) -> str:
        """The name of the server; another one after a failover."""
        return self._marks.server

    @server.setter
    def server(self, name: str) -> None:
        self._marks.server = name

    def flush(self) -> None:
        """Lose everything."""
        self._members.clear()
        self._pauses.clear()
        self._lines.clear()

    def copy(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a replica holds that has copied everything until now."""
        return copy.deepcopy(self._members), copy.deepcopy(self._lines)

    def restore(self, copied: tuple[dict[str, Any], dict[str, Any]], *, server: str) -> None:
        """The replica takes over, as another server."""
        self._members, self._lines = copy.deepcopy(copied)
        self.server = server

    def quota_reserve(self, *asked: Argument) -> list[Any]:
        """See `agentkit.state.quota_questions.reserve`."""
        keys, (asker, channels, topic, server, *rest) = _split(asked)
        wanted, rest = rest[:3], rest[3:]
        line_key, _, mark, *member_keys = keys
        count = len(member_keys) // 2
        now, offers = self._now(), list(_rows(rest[: 8 * count], 8))
        bucket = bucket_of(now)
        members = [
            _Offered(self._open(key, (mark, server), had=bool(offer[0])), offer)
            for key, offer in zip(member_keys[::2], offers, strict=True)
        ]
        if not _know(members, asker, now):
            return [bucket, -2, [], [], []]
        needs = list(_rows(rest[8 * count :], 3))
        line = self._lines.setdefault(line_key, _Line())
        call_up = functools.partial(self._call_up, line, members, channels=channels, topic=topic)
        rank = now - needs[0][2] if needs else now
        if needs and (blocked := self._blocked(line, asker, rank, call_up)):
            line.stand(asker, rank, needs[0])
            before = sum(each < rank for each in line.ranks.values())
            wait = blocked + (max(before, 1) - 1) * GRACE_MS
            return [bucket, wait, [], _used(members, now), []]
        latest = line.rank_of_others(asker) + TOGETHER_MS
        together = [each for each in needs if now - each[2] <= max(latest, rank)]
        granted, wait = _grant(members, together, now)
        others_first = not wait and len(granted) < len(needs)
        if wait or others_first:
            *need, waited = needs[len(granted)]
            line.stand(asker, now - waited, need)
            if line.first == asker:
                line.who, line.until, line.is_informed = asker, now + wait + GRACE_MS, False
                for each in members:
                    each.member.limits = each.limits
                return [bucket, wait, granted, _used(members, now), []]
        else:
            line.end_turn(asker)
        ahead: list[int] = []
        if (first := line.first) is not None:
            call_up(first)
            if others_first:
                wait = max(line.until - now, 1)
        elif granted:
            ahead = _take_ahead(members, wanted, now)
        return [bucket, wait, granted, _used(members, now), ahead]

    def _blocked(self, line: _Line, asker: str, rank: int, call_up: Callable[[str], None]) -> int:
        """The milliseconds for which another process goes first; 0 if none does."""
        now = self._now()
        while (first := line.first) is not None and first != asker:
            if line.ranks[first] > rank:
                break
            call_up(first)
            if line.until > now:
                return line.until - now
            line.leave(first)
        return 0

    def quota_introduce(self, *asked: Argument) -> list[int]:
        """See `agentkit.state.quota_questions.introduce`."""
        (mark, key, _), (asker, server, count, *entries) = _split(asked)
        now = self._now()
        member = self._open(key, (mark, server), had=True)
        known = asker in member.known
        all_of_it, missing = entries[: 4 * int(count)], entries[4 * int(count) :]
        for age, *change in _rows(missing if known else all_of_it, 4):
            if age < SPAN:
                member.add(bucket_of(now) - age, change)
        member.known[str(asker)] = now
        return [bucket_of(now), 0 if known else 1, member.born]

    def quota_settle(self, *asked: Argument) -> int:
        """See `agentkit.state.quota_questions.settle`."""
        (head, key), (channels, topic, born, *changes) = _split(asked)
        member, now = self._members.get(key), self._now()
        if member is None or member.born != born:
            return 0
        oldest, counted = max(member.oldest, now // 1000 - SPAN + 1), 0
        for reserved, *change in _rows(changes, 4):
            bucket = min(reserved, bucket_of(now))
            if bucket >= oldest:
                member.add(bucket, change)
                counted += 1
        line = self._lines.get(head.removesuffix("h") + "l")
        need = None if line is None or line.is_informed else line.needs.get(line.who)
        if line is not None and line.until > now and need and member.limits is not None:
            used = [a + b for a, b in zip(member.used, (1, *need), strict=True)]
            if not exceeds(member.limits, used):
                line.is_informed = True
                self._publish(f"{channels}{_process_of(line.who)}", f"{topic}\nroom 0".encode())
        return counted

    def quota_report(self, *asked: Argument) -> int:
        """See `agentkit.state.quota_questions.report`."""
        (mark, key, _, pause), (server, channel, topic, *numbers) = _split(asked)
        now = self._now()
        rest, lasting, *limits = map(int, numbers)
        if rest:
            self._pause(pause, rest)
        member = self._open(key, (mark, server), had=False)
        member.rest = max(member.rest, now + rest)
        member.learned = [stricter(*pair) for pair in zip(member.learned, limits, strict=True)]
        if any(limits):
            member.forgets = now + lasting
        text = " ".join(("report", *map(str, numbers)))
        self._publish(str(channel), f"{topic}\n{text}".encode())
        return 1

    def quota_pause(self, key: str, length: int, channel: str, topic: str) -> int:
        """See `agentkit.state.quota_questions.pause`."""
        if length:
            self._publish(channel, f"{topic}\nreport {length} 0 0 0 0 0".encode())
        return self._pause(key, length)

    def _pause(self, key: str, length: int) -> int:
        now = self._now()
        left = max(self._pauses.get(key, 0) - now, 0)
        if length > left:
            left, self._pauses[key] = length, now + length
        return left

    def quota_watch(self, *asked: Argument) -> list[Any]:
        """See `agentkit.state.quota_questions.watch`."""
        (mark, *keys), (asker, server, read, gone, *states) = _split(asked)
        reply: list[Any] = [self.server.encode()]
        if server != self.server:
            return reply
        now = self._now()
        self._marks.read(mark, int(read))
        for key, (took, users) in zip(keys[::2], _rows(states, 2), strict=True):
            member = self._open(key, (mark, server), had=bool(took))
            unknown = bool(took) and asker not in member.known
            if not unknown:
                member.known[str(asker)] = now
            member.wait_for_users(now, users)
            member.known = {name: at for name, at in member.known.items() if at > now - KEPT_MS}
            live = sum(now - int(gone) <= at <= now for at in member.known.values())
            rest, lasting = (max(until - now, 0) for until in (member.rest, member.forgets))
            row = [int(unknown), rest, member.unsure(now), lasting, *member.learned]
            row += [member.born, live]
            for bucket in sorted(member.buckets):
                row += [now // 1000 - bucket, *member.buckets[bucket]]
            reply.append(row)
        return reply

    def _open(self, key: str, marked: tuple[str, str], *, had: bool) -> Member:
        now = self._now()
        member = self._members.get(key)
        if member is None or member.newest - now // 1000 > 2 * SPAN:
            since = self._marks.since(*marked)
            if had or member is not None:
                since = now
            is_lost = since + LONGEST_HOLD_MS > now
            holds = (since + HOLD_MS, since + LONGEST_HOLD_MS) if is_lost else (0, 0)
            member = self._members[key] = Member(now, *holds)
        member.expire(now)
        return member

    def _call_up(
        self, line: _Line, members: Sequence[_Offered], who: str, *, channels: str, topic: str
    ) -> None:
        """Let the first in the line ask, at once or when there will be room for it."""
        if line.who == who:
            return
        now, need, wait = self._now(), line.needs.get(who), 0.0
        if need is not None:
            wait = min(each.member.wait(each.limits, (1, *need), now) for each in members)
        after = 0 if wait == math.inf else int(wait)
        line.who, line.until, line.is_informed = who, now + after + GRACE_MS, not after
        self._publish(f"{channels}{_process_of(who)}", f"{topic}\nroom {after}".encode())


def _split(asked: Sequence[Argument]) -> tuple[list[str], list[Any]]:
    """The keys and the arguments of a question: keys have the prefix, and come first."""
    count = next(
        (n for n, each in enumerate(asked) if not str(each).startswith("ak1:{")), len(asked)
    )
    return [str(each) for each in asked[:count]], list(asked[count:])


def _rows(values: Sequence[Any], size: int) -> Iterator[list[int]]:
    for at in range(0, len(values), size):
        yield [int(each) for each in values[at : at + size]]


def _used(members: Sequence[_Offered], now: int) -> list[int]:
    return [
        number
        for each in members
        for number in (*each.member.used, each.member.unsure(now), each.member.born)
    ]


def _know(members: Sequence[_Offered], asker: str, now: int) -> bool:
    """Whether all members know what `asker` took; where that is nothing, they do from now on."""
    for each in members:
        if not each.had:
            each.member.known.setdefault(asker, now)
        each.member.wait_for_users(now, each.users)
    return all(asker in each.member.known for each in members)


def _grant(
    members: Sequence[_Offered], needs: Sequence[Sequence[int]], now: int
) -> tuple[list[int], int]:
    """The numbers of the members that serve the first needs, and the wait of the next one."""
    granted: list[int] = []
    for input_tokens, output_tokens, _ in needs:
        need = (1, input_tokens, output_tokens)
        waits = {
            number: each.member.wait(each.limits, need, now)
            for number, each in enumerate(members)
            if each.free > 0
        }
        free = [number for number, wait in waits.items() if wait == 0]
        if not free:
            wait = min(waits.values(), default=0)
            return granted, GRACE_MS if wait == math.inf else int(wait)
        best = min(free, key=lambda number: members[number].load)
        members[best].free -= 1
        members[best].load += 1
        members[best].member.add(bucket_of(now), need)
        granted.append(best + 1)
    return granted, 0


def _take_ahead(members: Sequence[_Offered], wanted: Sequence[int], now: int) -> list[int]:
    """Take places for calls that are expected; how many in each member."""
    count, *need = wanted

    def has_half(each: _Offered) -> bool:
        """Whether at most half of its limits is taken with one place more."""
        taken = zip(each.member.used, (1, *need), strict=True)
        after = [2 * (used + (each.ahead + 1) * more) for used, more in taken]
        is_open = each.serves and max(each.member.rest, each.member.held) <= now
        return is_open and not exceeds(each.limits, after)

    for _ in range(count):
        free = [each for each in members if has_half(each)]
        if not free:
            break
        best = min(free, key=lambda each: each.load)
        best.ahead, best.load = best.ahead + 1, best.load + 1
    for each in members:
        if each.ahead:
            each.member.add(bucket_of(now), [each.ahead * more for more in (1, *need)])
            each.member.returned = now + RETURNED_MS
    return [each.ahead for each in members]


def _process_of(asker: str) -> str:
    return asker.partition(":")[0]
