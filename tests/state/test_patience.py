"""A store that is silent is lost, unless this process is late itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit._fork import WakeSignal
from agentkit.state import questions
from agentkit.state.address import PATIENCE
from agentkit.state.line import SLOW, Pending
from agentkit.state.patience import FIRST_PAUSE, LATE, LATE_PATIENCE, TICK, Patience
from agentkit.state.questions import LONGEST_WAIT

NOW = 1_000.0


def waiting(*, retry: bool = False) -> Pending:
    return Pending(questions.beat("p")._replace(retry=retry), signal=WakeSignal())


CALL, REPEATS, POSTED = waiting(), waiting(retry=True), Pending(questions.beat("p"))


def late() -> Patience:
    patience = Patience()
    patience.note_wake(due=NOW - LATE - 0.01, now=NOW)
    return patience


@pytest.mark.parametrize(
    ("left", "patience"),
    [([CALL], PATIENCE), ([CALL, POSTED], PATIENCE), ([POSTED], 2 * PATIENCE)],
)
def test_a_silent_store_is_lost_after_the_patience_and_later_if_no_call_waits(
    left: list[Pending], patience: float
) -> None:
    judge = Patience().judge
    assert judge(patience - 0.001, left, NOW) == "wait"
    assert judge(patience, left, NOW) == "lost"


def test_questions_that_ask_for_it_wait_twice_as_long_and_part_from_the_others() -> None:
    judge = Patience().judge
    assert judge(PATIENCE - 0.001, [CALL, REPEATS], NOW) == "wait"
    assert judge(PATIENCE, [CALL, REPEATS], NOW) == "part"
    assert judge(2 * PATIENCE, [CALL, REPEATS], NOW) == "lost"


@pytest.mark.parametrize("left", [[CALL], [POSTED], [CALL, REPEATS]])
def test_a_late_process_blames_no_store_for_a_second(left: list[Pending]) -> None:
    assert late().judge(PATIENCE, left, NOW) == "part"
    assert late().judge(LATE_PATIENCE - 0.001, left, NOW) == "part"
    assert late().judge(LATE_PATIENCE, left, NOW) == "lost"


def test_lateness_ends_a_second_after_the_last_late_wake() -> None:
    patience = late()
    assert patience.is_late(NOW + LATE_PATIENCE - 0.001)
    assert not patience.is_late(NOW + LATE_PATIENCE)
    patience.note_wake(due=NOW + 0.5, now=NOW + 0.5 + LATE + 0.001)
    assert patience.is_late(NOW + LATE_PATIENCE)
    assert patience.judge(PATIENCE, [CALL], NOW + 5.0) == "lost"


def test_a_thread_that_wakes_in_time_is_not_late() -> None:
    patience = Patience()
    patience.note_wake(due=NOW, now=NOW + LATE - 0.001)
    patience.note_wake(due=NOW + 60.0, now=NOW)  # before its time, as there was something to do
    assert not patience.is_late(NOW)


def test_a_late_heartbeat_makes_no_store_slow() -> None:
    end = NOW + 2 * SLOW
    assert Patience().is_slow(NOW, end)
    assert not Patience().is_slow(NOW, NOW + SLOW - 0.001)
    patience = Patience()
    patience.note_wake(due=NOW + TICK, now=end)  # the thread that waited for the reply
    assert not patience.is_slow(NOW, end)


@given(st.floats(0, 5), st.sampled_from([[CALL], [REPEATS], [POSTED], [CALL, REPEATS, POSTED]]))
def test_each_silence_that_loses_a_store_made_it_suspect_a_tick_before(
    silence: float, left: list[Pending]
) -> None:
    patience = Patience()
    if patience.judge(silence, left, NOW) != "wait":
        assert patience.suspects(silence - TICK)


def test_a_store_that_was_just_lost_is_tried_at_once_while_callers_may_still_wait() -> None:
    pause = Patience().pause
    assert pause(0.0, 1.0) == FIRST_PAUSE
    assert pause(LONGEST_WAIT - 0.001, 1.0) == FIRST_PAUSE
    assert pause(LONGEST_WAIT, 1.0) == 1.0
    assert FIRST_PAUSE * 3 < LONGEST_WAIT
    assert pause(float("inf"), 1.0) == 1.0, "it was never there"
