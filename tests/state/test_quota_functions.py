"""Shared quota: what the functions grant, the same in both homes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.state import quota_questions
from agentkit.state.questions import NEWS, beat, inbox_of
from agentkit.state.quota_questions import (
    HOLD_MS,
    INTRODUCE,
    LONGEST_HOLD_MS,
    RETURNED_MS,
    SEND_WITHIN_MS,
    SPAN,
    Offer,
    QuotaKeys,
    Watched,
)
from tests.state.both import Both

KEYS = QuotaKeys.of("group", "line")
ASKERS = ("p1:1", "p2:1", "p3:1")
NO_LIMIT = (0, 0, 0, 0)


class Quota(Both):
    """The functions about quota, for askers that remember what they took as processes do."""

    def __init__(self, client: redis.Redis, members: int = 1) -> None:
        super().__init__(client)
        found: Any = client.info("replication")
        self.server = self.local.quota.server = found["master_replid"][:12]
        self.members = [KEYS.member(f"m{n}", self.server) for n in range(members)]
        self.took: dict[str, list[tuple[int, int, int, int, int]]] = {}
        self.granted: list[tuple[int, int, int, int]] = []
        self.mark = self.beat("p1", 0)
        self.born = 0
        self.ahead: list[int] = []

    def had(self, asker: str, member: int) -> bool:
        since = self.now - SPAN * 1000
        return any(at > since and m == member for at, m, *_ in self.took.get(asker, []))

    def reserve(
        self,
        asker: str,
        *needs: tuple[int, int, int],
        limits: tuple[int, int, int, int] = NO_LIMIT,
        users: int = 1,
        free: int = 100,
        ahead: tuple[int, int, int] = (0, 0, 0),
    ) -> Any:
        """The reply, without the places that were taken `ahead`, which count as sent."""
        offers = [
            Offer(each, self.had(asker, n), users=users, free=free, load=0, limits=limits)
            for n, each in enumerate(self.members)
        ]
        question = quota_questions.reserve(KEYS, asker, self.server, offers, needs, ahead=ahead)
        *reply, self.ahead = self.ask(question)
        self.born = reply[3][4] if reply[3] else self.born
        for need, member in zip(needs, reply[2], strict=False):
            entry = (self.now, member - 1, 1, need[0], need[1])
            self.took.setdefault(asker, []).append(entry)
        for number, count in enumerate(self.ahead):
            self.took.setdefault(asker, []).extend(
                [(self.now + SEND_WITHIN_MS, number, 1, *ahead[1:])] * count
            )
        return reply

    def introduce(self, asker: str, missing: Any = ()) -> list[Any]:
        replies = []
        for number, each in enumerate(self.members):
            took: list[Any] = [
                ((self.now - at) // 1000, *taken)
                for at, member, *taken in self.took.get(asker, [])
                if member == number
            ]
            question = quota_questions.introduce(
                KEYS, each, asker, self.server, entries=took, missing=missing
            )
            replies.append(self.ask(question))
        return replies

    def beat(self, process: str, known: int) -> int:
        mark: int = self.ask(beat(process, known))[2]
        return mark

    def watch(self, asker: str, users: int = 1, known: int = 0) -> Any:
        watched = [
            Watched(each, had=self.had(asker, n), users=users)
            for n, each in enumerate(self.members)
        ]
        return self.ask(quota_questions.watch(KEYS, asker, self.server, known, watched))

    def report(self, member: int, **what: Any) -> None:
        keys = self.members[member]
        self.ask(quota_questions.report(KEYS, f"m{member}", keys, self.server, **what))

    def settle(self, member: int, *changes: tuple[int, int, int, int]) -> Any:
        return self.ask(quota_questions.settle(KEYS, self.members[member], self.born, changes))

    def take(self, name: str, *values: Any) -> None:
        """One step of a property."""
        if name == "reserve":
            asker, asked, users, ahead = values
            limits = (6, 150, 150, 250)
            reply = self.reserve(asker, *asked, limits=limits, users=users, free=3, ahead=ahead)
            if reply[1] == INTRODUCE:
                self.introduce(asker, missing=[(1, 1, 3, 3)])
        elif name == "settle":
            member, age, change = values
            self.settle(member, (self.now // 1000 - age, 0, change, -change))
        elif name == "report":
            member, rest, limit = values
            learned = (limit, 0, 0, limit * 20)
            self.report(member, rest=float(rest), lasting=60.0, limits=learned)
        else:
            acts: dict[str, Callable[..., Any]] = {
                "advance": self.advance,
                "back": lambda ms: self.advance(-ms),
                "watch": lambda asker: self.watch(asker, users=2, known=self.mark),
                "pause": lambda n, length: self.ask(quota_questions.pause(KEYS, f"m{n}", length)),
                "beat": lambda known: self.beat("p1", known * self.mark),
                "flush": self.flush,
            }
            acts[name](*values)

    def in_window(self) -> tuple[int, int, int]:
        """What was granted in the last 60 s, over all askers and members."""
        rows = [t for each in self.took.values() for t in each if t[0] > self.now - 60_000]
        return len(rows), sum(t[3] for t in rows), sum(t[4] for t in rows)


@pytest.fixture
def quota(client: redis.Redis) -> Iterator[Quota]:
    made = Quota(client)
    yield made
    made.close()


def rooms(heard: list[tuple[str, bytes]]) -> list[str]:
    return [channel.removeprefix(inbox_of("")) for channel, data in heard if b"room" in data]


def test_the_limit_is_that_of_all_processes(quota: Quota) -> None:
    limits = (5, 0, 0, 0)
    assert quota.reserve("p1:1", *[(0, 0, 0)] * 3, limits=limits)[1:3] == [0, [1, 1, 1]]
    _, wait, granted, used = quota.reserve("p2:1", *[(0, 0, 0)] * 3, limits=limits)
    assert granted == [1, 1]
    assert used[:3] == [5, 0, 0]
    quota.advance(wait - 1)
    assert quota.reserve("p2:1", (0, 0, 0), limits=limits)[2] == []
    quota.advance(1)
    assert quota.reserve("p2:1", (0, 0, 0), limits=limits)[2] == [1]


def test_what_was_not_used_is_given_back_and_whoever_waits_hears_of_it(quota: Quota) -> None:
    limits = (0, 0, 0, 1000)
    bucket, *_ = quota.reserve("p1:1", (100, 900, 0), limits=limits)
    assert quota.reserve("p2:1", (300, 300, 0), limits=limits)[2] == []
    assert quota.settle(0, (bucket, 0, 0, -500)) == 1
    assert rooms(quota.heard()) == []
    assert quota.settle(0, (bucket, 0, 0, -100)) == 1
    assert rooms(quota.heard()) == ["p2"]
    assert quota.reserve("p2:1", (300, 300, 0), limits=limits)[2] == [1]


def test_places_are_taken_ahead_up_to_half_of_a_limit_while_no_process_waits(quota: Quota) -> None:
    limits = (10, 0, 0, 1000)
    quota.reserve("p1:1", (0, 50, 0), limits=limits, ahead=(64, 0, 50))
    assert quota.ahead == [4]
    _, _, granted, used = quota.reserve("p2:1", (0, 500, 0), limits=limits, ahead=(64, 0, 1))
    assert (granted, used[:3], quota.ahead) == ([1], [6, 0, 750], [0])
    assert quota.reserve("p3:1", (0, 500, 0), limits=limits)[1] == RETURNED_MS
    quota.advance(RETURNED_MS)
    assert quota.reserve("p3:1", (0, 500, 0), limits=limits)[1] > 59_000
    quota.settle(0, (quota.now // 1000, -6, 0, -700))
    quota.reserve("p1:1", (0, 0, 0), limits=limits, ahead=(1, 0, 0))
    assert quota.ahead == [], "p3 waits"


def test_places_ahead_are_of_all_members_that_serve(client: redis.Redis) -> None:
    quota = Quota(client, members=2)
    try:
        limits = (10, 0, 0, 0)
        quota.reserve("p1:1", (0, 0, 0), limits=limits, free=1, ahead=(6, 0, 0))
        assert quota.ahead == [3, 3]
        quota.report(0, rest=5.0)
        quota.reserve("p1:1", (0, 0, 0), limits=limits, ahead=(3, 0, 0))
        assert quota.ahead == [0, 1]
        quota.reserve("p1:1", (0, 0, 0), limits=limits, free=0, ahead=(3, 0, 0))
        assert quota.ahead == []
    finally:
        quota.close()


def test_no_other_overtakes_the_first_in_the_line_while_it_asks_in_time(quota: Quota) -> None:
    limits = (0, 100, 0, 0)
    quota.reserve("p1:1", (50, 0, 0), limits=limits)
    _, wait, granted, _ = quota.reserve("p2:1", (95, 0, 0), limits=limits)
    assert granted == []
    for _ in range(5):
        quota.advance(1000)
        assert quota.reserve("p3:1", (1, 0, 0), limits=limits)[2] == []
    quota.advance(wait - 5000)
    assert quota.reserve("p3:1", (1, 0, 5000), limits=limits)[2] == []
    assert quota.reserve("p2:1", (95, 0, wait), limits=limits)[2] == [1]
    assert rooms(quota.heard()) == ["p3"]
    assert quota.reserve("p3:1", (1, 0, 5000), limits=limits)[2] == [1]


def test_the_first_in_the_line_stalls_the_others_for_a_second_if_it_is_gone(quota: Quota) -> None:
    limits = (0, 100, 0, 0)
    quota.reserve("p1:1", (50, 0, 0), limits=limits)
    _, wait, _, _ = quota.reserve("p2:1", (95, 0, 0), limits=limits)
    _, stalled, granted, _ = quota.reserve("p3:1", (1, 0, 0), limits=limits)
    assert (granted, stalled) == ([], wait + 1000)
    quota.advance(stalled)
    assert quota.reserve("p3:1", (1, 0, stalled), limits=limits)[2] == [1]


def test_priority_goes_ahead_in_the_line(quota: Quota) -> None:
    limits = (1, 0, 0, 0)
    quota.reserve("p1:1", (0, 0, 0), limits=limits)
    _, wait, _, _ = quota.reserve("p2:1", (0, 0, 0), limits=limits)
    quota.reserve("p3:1", (0, 0, 30_000), limits=limits)  # three steps of priority
    quota.advance(wait)
    assert quota.reserve("p2:1", (0, 0, wait), limits=limits)[2] == []
    assert quota.reserve("p3:1", (0, 0, wait + 30_000), limits=limits)[2] == [1]


def test_calls_go_together_if_they_come_at_most_half_a_step_after_the_first_of_another(
    quota: Quota,
) -> None:
    limits = (4, 0, 0, 0)
    quota.reserve("p1:1", *[(0, 0, 0)] * 4, limits=limits)
    _, wait, _, _ = quota.reserve("p2:1", (0, 0, 60_000), limits=limits)
    quota.reserve("p3:1", (0, 0, 50_000), limits=limits)
    quota.heard()
    quota.advance(wait)
    mine = [wait + 60_000, wait + 45_000, wait + 44_999]
    _, later, granted, _ = quota.reserve("p2:1", *((0, 0, each) for each in mine), limits=limits)
    assert (granted, later) == ([1, 1], 1000)
    assert rooms(quota.heard()) == ["p3"]
    assert quota.reserve("p3:1", (0, 0, wait + 50_000), limits=limits)[2] == [1]
    assert rooms(quota.heard()) == ["p2"]
    assert quota.reserve("p2:1", (0, 0, mine[-1]), limits=limits)[2] == [1]


def test_the_line_moves_on_when_the_first_leaves_it(quota: Quota) -> None:
    limits = (1, 0, 0, 0)
    quota.reserve("p1:1", (0, 0, 0), limits=limits)
    quota.reserve("p2:1", (0, 0, 10), limits=limits)
    quota.reserve("p3:1", (0, 0, 5), limits=limits)
    quota.heard()
    quota.reserve("p2:1", limits=limits)
    assert rooms(quota.heard()) == ["p3"]


def test_several_members_share_the_load_and_a_rest_leaves_the_others(client: redis.Redis) -> None:
    quota = Quota(client, members=3)
    try:
        limits = (2, 0, 0, 0)
        assert quota.reserve("p1:1", *[(0, 0, 0)] * 3, limits=limits)[2] == [1, 2, 3]
        topic = KEYS.topic("m0")
        quota.report(0, rest=5.0)
        assert quota.heard()[-1] == (NEWS, f"{topic}\nreport 5000 0 0 0 0 0".encode())
        _, wait, granted, _ = quota.reserve("p2:1", *[(0, 0, 0)] * 3, limits=limits)
        assert granted == [2, 3]
        assert wait == 5000
    finally:
        quota.close()


def test_learned_limits_hold_for_everybody_and_end(quota: Quota) -> None:
    quota.report(0, lasting=60.0, limits=(2, 0, 0, 0))
    assert quota.reserve("p1:1", *[(0, 0, 0)] * 3, limits=(10, 0, 0, 0))[2] == [1, 1]
    assert quota.watch("p2:1")[1][3:8] == [60_000, 2, 0, 0, 0]
    quota.advance(60_000)
    assert len(quota.reserve("p1:1", *[(0, 0, 0)] * 3, limits=(10, 0, 0, 0))[2]) == 3


def test_after_a_loss_nothing_is_granted_until_all_have_introduced_themselves(quota: Quota) -> None:
    limits = (4, 0, 0, 0)
    quota.reserve("p1:1", *[(0, 0, 0)] * 2, limits=limits)
    quota.reserve("p2:1", *[(0, 0, 0)] * 2, limits=limits)
    quota.flush()
    assert quota.reserve("p3:1", (0, 0, 0), limits=limits, users=3)[1:3] == [LONGEST_HOLD_MS, []]
    assert quota.reserve("p1:1", (0, 0, 0), limits=limits)[1] == INTRODUCE
    quota.introduce("p1:1")
    assert quota.watch("p2:1")[1][0] == 1
    quota.introduce("p2:1")
    quota.advance(LONGEST_HOLD_MS)
    _, _, granted, used = quota.reserve("p3:1", (0, 0, 0), limits=limits)
    assert (granted, used[:3]) == ([], [4, 0, 0])


def test_a_new_key_costs_no_wait_unless_the_server_has_forgotten_something(quota: Quota) -> None:
    assert quota.beat("p2", quota.mark) == quota.mark < 0
    assert quota.reserve("p1:1", (0, 0, 0), users=8)[1:3] == [0, [1]]
    quota.advance(10)
    quota.flush()
    assert quota.beat("new", 0) < 0  # it cannot know of the loss
    lost_at = quota.beat("p2", quota.mark)
    assert lost_at == quota.now
    quota.members = [KEYS.member("another", quota.server)]
    quota.advance(1000)
    assert quota.reserve("p2:1", (0, 0, 0))[1:3] == [HOLD_MS - 1000, []]
    quota.advance(LONGEST_HOLD_MS)
    quota.members = [KEYS.member("third", quota.server)]
    assert quota.reserve("p3:1", (0, 0, 0), users=8)[1:3] == [0, [1]]


def test_only_processes_that_use_a_key_are_waited_for(quota: Quota) -> None:
    quota.reserve("p1:1", (0, 0, 0))
    quota.reserve("p2:1", (0, 0, 0))
    quota.flush()
    for asker in ("p1:1", "p2:1"):
        quota.introduce(asker)
    _, wait, _, (*_, unsure, _) = quota.reserve("p1:1", (0, 0, 0), users=2)
    assert (wait, unsure) == (HOLD_MS, LONGEST_HOLD_MS)
    quota.advance(HOLD_MS)
    assert quota.watch("p1:1", users=2)[1][2] == 0
    assert quota.watch("p3:1", users=9)[1][2] == LONGEST_HOLD_MS - HOLD_MS


def test_what_was_taken_alone_is_counted_once_for_a_known_process(quota: Quota) -> None:
    quota.reserve("p1:1", (5, 5, 0))
    assert quota.introduce("p1:1", missing=[(3, 1, 7, 7)]) == [[quota.now // 1000, 0, quota.born]]
    assert quota.watch("p1:1")[1][10:] == [3, 1, 7, 7, 0, 1, 5, 5]


def test_a_clock_that_jumps_admits_nothing_over_the_limit(quota: Quota) -> None:
    limits = (2, 0, 0, 0)
    quota.reserve("p1:1", (0, 0, 0), (0, 0, 0), limits=limits)
    quota.advance(-5_000)
    assert quota.reserve("p1:1", (0, 0, 0), limits=limits)[1] == SPAN * 1000 + 5_000
    quota.advance(-200_000)  # the window starts anew, as after a loss
    assert quota.reserve("p1:1", (0, 0, 0), limits=limits)[1] == INTRODUCE


def test_another_server_only_says_its_name(quota: Quota) -> None:
    found = quota.ask(quota_questions.watch(KEYS, "p1:1", "other", 0, []))
    assert found == [quota.server.encode()]


needs = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 20_000))
aheads = st.tuples(st.integers(0, 4), st.integers(0, 30), st.integers(0, 30))
reservations = st.tuples(
    st.just("reserve"),
    st.sampled_from(ASKERS),
    st.lists(needs, max_size=4),
    st.sampled_from([1, 1, 3]),
    aheads,
)
steps = st.one_of(
    reservations,
    reservations,
    st.tuples(st.just("advance"), st.one_of(st.integers(1, 3000), st.integers(1, 40_000))),
    st.tuples(st.just("settle"), st.integers(0, 1), st.integers(0, 70), st.integers(-40, 40)),
    st.tuples(st.just("watch"), st.sampled_from(ASKERS)),
    st.tuples(st.just("report"), st.integers(0, 1), st.integers(0, 5), st.integers(0, 9)),
    st.tuples(st.just("pause"), st.integers(0, 1), st.sampled_from([0.0, 0.0, 3.0, 7.0])),
    st.tuples(st.just("flush")),
    st.tuples(st.just("beat"), st.integers(0, 1)),
    st.tuples(st.just("back"), st.sampled_from([1_000, 5_000, 130_000])),
)


@given(st.lists(steps, max_size=25))
@settings(max_examples=80, deadline=None)
def test_the_scripts_do_what_the_functions_in_memory_do(
    client: redis.Redis, taken: list[Any]
) -> None:
    quota = Quota(client, members=2)
    try:
        for name, *values in taken:
            quota.take(name, *values)
        assert quota.heard() == quota.messages
    finally:
        quota.close()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(ASKERS), st.lists(needs, min_size=1, max_size=5), aheads),
            st.integers(1, 20_000),
            st.just("flush"),
        ),
        max_size=30,
    )
)
@settings(max_examples=60, deadline=None)
def test_no_window_holds_more_than_the_limit_even_after_a_loss(
    client: redis.Redis, taken: list[Any]
) -> None:
    limits = (8, 200, 200, 300)
    quota = Quota(client)
    try:
        for step in taken:
            if step == "flush":
                quota.flush()
            elif isinstance(step, int):
                quota.advance(step)
                for asker in ASKERS:  # as with each heartbeat
                    if quota.watch(asker, users=3, known=quota.mark)[1][0]:
                        quota.introduce(asker)
            else:
                asker, asked, ahead = step
                options: Any = {"limits": limits, "users": 3, "ahead": ahead}
                if quota.reserve(asker, *asked, **options)[1] == INTRODUCE:
                    quota.introduce(asker)
                    quota.reserve(asker, *asked, **options)
                requests, inputs, outputs = quota.in_window()
                assert requests <= 8
                assert inputs <= 200
                assert outputs <= 200
                assert inputs + outputs <= 300
    finally:
        quota.close()
