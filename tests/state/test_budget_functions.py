"""The accounts of budgets are the same in memory and in a server."""

from __future__ import annotations

from typing import Any

import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.state import budget_questions
from agentkit.state.budget_questions import (
    HOLD_MS,
    Statement,
    Sum,
    account_key,
)
from agentkit.state.questions import beat, mark_key
from tests.state.both import START, Both
from tests.state.test_functions import PROCESSES

KEY = account_key("team", "day")
WINDOW = 3_000

sums = st.builds(Sum, st.integers(0, 9), st.sampled_from([0, 1, 70_000_000_000_001]))
changes = st.builds(Sum, st.integers(-5, 9), st.integers(-5, 9))
limits = st.none() | st.builds(Sum, st.sampled_from([-1, 20]), st.sampled_from([-1, 10**14]))


@st.composite
def spendings(draw: st.DrawFn) -> Any:
    start = START + WINDOW * draw(st.integers(0, 2))
    statement = Statement(
        process=draw(st.sampled_from(PROCESSES)),
        epoch=draw(st.integers(1, 3)),
        start=draw(st.sampled_from([start, start, 0])),
        end=draw(st.sampled_from([start + WINDOW, start + WINDOW, 0])),
        born=draw(st.sampled_from([0, 0, START])),
        base=draw(sums),
        reported=draw(sums),
        seen=draw(sums),
        seen_at=draw(st.sampled_from([0, START, START + 1])),
        spent=draw(changes),
    )
    marks = draw(st.sampled_from([(), (mark_key(),)]))
    ahead = draw(st.builds(Sum, st.integers(0, 3), st.integers(0, 3)))
    return budget_questions.spend(
        KEY, statement, draw(sums), draw(limits), ahead=ahead, marks=marks
    )


steps = st.one_of(
    spendings(),
    spendings(),
    spendings(),
    st.builds(budget_questions.leave, st.just(KEY), st.sampled_from(PROCESSES)),
    st.builds(beat, st.sampled_from(PROCESSES), st.sampled_from([0, START])),
    st.just("flush"),
    st.integers(-WINDOW, WINDOW),
)


@given(st.lists(steps, max_size=12))
@settings(max_examples=60)
def test_the_scripts_do_what_the_functions_in_memory_do(
    client: redis.Redis,
    taken: list[Any],
) -> None:
    both = Both(client)
    try:
        for step in taken:
            if step == "flush":
                both.flush()
            elif isinstance(step, int):
                both.advance(step)
            else:
                both.ask(step)
    finally:
        both.close()


def test_an_account_is_kept_for_its_window_and_one_without_an_end_for_ever(
    client: redis.Redis,
) -> None:
    both = Both(client)
    try:
        statement = Statement("p", epoch=1, start=START, end=START + WINDOW, spent=Sum(5, 5))
        both.ask(budget_questions.spend(KEY, statement))
        assert WINDOW < client.pttl(KEY) <= WINDOW + 60_000
        eternal = account_key("team", None)
        both.ask(budget_questions.spend(eternal, statement._replace(start=0, end=0)))
        assert client.pttl(eternal) == -1
    finally:
        both.close()
    assert HOLD_MS > 1000, "longer than the time between two heartbeats"
