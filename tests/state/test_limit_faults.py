"""Limits that processes share hold in every minute, whatever is lost, late or asleep."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.policy.limits import RateLimits
from tests.state.fleets import World

MOST = 6

numbers = st.integers(0, 2)
troubles = st.one_of(
    st.just(("nothing",)),
    st.just(("flush",)),
    st.just(("fail over",)),
    st.tuples(st.just("sleep"), numbers, st.sampled_from([0.4, 1.5, 3.0])),
    st.tuples(st.just("lose replies"), numbers),
    st.tuples(st.just("delay replies"), numbers, st.sampled_from([0.2, 1.0, 1.5])),
    st.tuples(st.just("flush, then part"), numbers, st.sampled_from([0.2, 1.0, 2.0])),
    st.tuples(st.just("finish"), numbers, st.integers(0, 20)),
)
pauses = st.sampled_from([0.1, 0.5, 1.5, 5.0, 20.0, 57.5])
episodes = st.tuples(st.lists(st.tuples(numbers, st.integers(0, 60)), max_size=5), troubles, pauses)


class Trouble:
    """Processes that want more than they may have, to which something happens."""

    def __init__(self) -> None:
        limits = RateLimits(requests_per_minute=MOST, input_tokens_per_minute=200)
        self.world = World(3, limits)
        self.backup = self.world.store.backup()

    def happen(self, name: str, *values: Any) -> None:
        world = self.world
        if name == "flush":
            world.store.state.flush()
        elif name == "fail over":
            world.fail_over(self.backup)
        elif name == "flush, then part":
            world.store.state.flush()
            world.advance(1.0)  # it hears of the loss with its heartbeat
            world[values[0]].fleet.part(values[1])
        elif name == "sleep":
            world[values[0]].sleep(values[1])
        elif name == "lose replies":
            world[values[0]].fleet.lose_replies()
        elif name == "delay replies":
            world[values[0]].fleet.delay_replies(values[1])
        elif name == "finish":
            number, used = values
            granted = world[number].granted
            world[number].finish(min(used, granted[0].need.input_tokens) if granted else None)

    def demand(self) -> None:
        """Each process takes what it may, which some have not asked for before."""
        for each in self.world.processes:
            while not each.fleet.is_asleep and len(each.waiting) < 2:
                each.call()
        self.world.advance(0.5)


@given(st.lists(episodes, max_size=5))
@settings(max_examples=16, deadline=None)
def test_no_minute_holds_more_than_the_limit(taken: list[Any]) -> None:
    trouble = Trouble()
    world = trouble.world
    for calls, what, pause in taken:
        trouble.backup = world.store.backup()
        for number, tokens in calls:
            if not world[number].fleet.is_asleep:
                world[number].call(tokens)
        world.settle()
        trouble.happen(*what)
        trouble.demand()
        world.advance(pause)
        assert world.fullest()[0] <= MOST
    world.advance(500.0)
    assert not any(each.waiting for each in world.processes)
    assert world.fullest()[0] <= MOST
