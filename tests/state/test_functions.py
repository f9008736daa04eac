"""Both homes of shared state give the same replies to the same questions at the same times."""

from __future__ import annotations

from typing import Any

import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.state import questions
from agentkit.state.questions import LEAD, LEASE_MS, SharedKeys
from tests.state.both import START, Both

PROCESSES = ("p1", "p2", "p3")
KEYS = SharedKeys.of("group", "key")


processes, numbers = st.sampled_from(PROCESSES), st.integers(1, 2)
claims = st.builds(
    lambda process, number: questions.shared_claim(KEYS, f"{process}:{number}", process),
    processes,
    numbers,
)
renewals = st.builds(
    lambda process, number: questions.shared_renew(KEYS, f"{process}:{number}"),
    processes,
    numbers,
)
ends = st.builds(
    lambda process, number, outcome, data: questions.shared_complete(
        KEYS, f"{process}:{number}", outcome, data, ttl=1e6
    ),
    processes,
    numbers,
    st.sampled_from(["answer", "error", "left"]),
    st.sampled_from([b"", b"bytes \x00\xff\n", b"x" * (questions.LARGEST_MESSAGE + 1)]),
)
lives = st.sampled_from([questions.beat, questions.leave]).flatmap(
    lambda function: st.builds(function, processes)
)
steps = st.one_of(claims, claims, ends, renewals, lives, st.just("flush"), st.integers(1, LEASE_MS))


@given(st.lists(steps, max_size=9))  # the server forgets a shared call after ten leases of its own
@settings(max_examples=60)
def test_the_scripts_do_what_the_functions_in_memory_do(
    client: redis.Redis, taken: list[Any]
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
        assert both.heard() == both.messages
    finally:
        both.close()


def claim(both: Both, process: str) -> Any:
    return both.ask(questions.shared_claim(KEYS, f"{process}:1", process))


def complete(both: Both, process: str, outcome: Any = "answer", data: bytes = b"it") -> int:
    found: int = both.ask(questions.shared_complete(KEYS, f"{process}:1", outcome, data, ttl=60.0))
    return found


def test_one_process_leads_and_the_others_get_its_answer(both: Both) -> None:
    assert claim(both, "p1") == LEAD
    assert claim(both, "p2") == LEASE_MS
    assert claim(both, "p3") == LEASE_MS
    assert complete(both, "p1") == 2
    assert claim(both, "p4") == b"it"
    message = f"{KEYS.call}\nanswer\nit".encode()
    assert both.heard() == [(questions.inbox_of(each), message) for each in ("p2", "p3")]


def test_one_process_takes_over_when_the_lease_has_ended(both: Both) -> None:
    claim(both, "p1")
    claim(both, "p2")
    both.advance(LEASE_MS)
    assert claim(both, "p2") == LEAD
    assert claim(both, "p3") == LEASE_MS


def test_a_renewed_lease_holds(both: Both) -> None:
    claim(both, "p1")
    both.advance(LEASE_MS - 1)
    assert both.ask(questions.shared_renew(KEYS, "p1:1")) == 1
    both.advance(LEASE_MS - 1)
    assert claim(both, "p2") == 1


def test_of_a_leader_that_was_replaced_the_answer_counts_and_the_error_does_not(
    both: Both,
) -> None:
    claim(both, "p1")
    both.advance(LEASE_MS)
    claim(both, "p2")
    assert both.ask(questions.shared_renew(KEYS, "p1:1")) == 0
    assert complete(both, "p1", "error") == -1
    assert claim(both, "p3") == LEASE_MS
    assert complete(both, "p1", "answer") == -1
    assert claim(both, "p3") == b"it"


def test_a_process_counts_as_gone_some_seconds_after_its_last_heartbeat(both: Both) -> None:
    assert both.ask(questions.beat("p1")) == [1, START, -START]
    both.advance(questions.ALIVE_MS - 1)
    assert both.ask(questions.beat("p2"))[0] == 2
    both.advance(1)
    assert both.ask(questions.beat("p2"))[0] == 1
    assert both.ask(questions.leave("p2")) == 1
    assert both.ask(questions.leave("p2")) == 0
