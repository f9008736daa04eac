"""What may follow a stream that broke after its first content, and what never does."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentkit import errors as e
from agentkit.engine.exchange import StreamExchange
from agentkit.policy.retry import RetryPolicy
from agentkit.testing import faults, overloaded
from agentkit.types import End, OnInterrupt, Request, Restart, TextDelta, ToolSpec
from tests.engine.stage import Asked, Stage

pytestmark = pytest.mark.flows

CUT = faults.cut_stream(1, reply="one two")
BROKEN = ConnectionResetError("reset")


def stream(
    script: dict[str, Any],
    on_interrupt: OnInterrupt,
    *,
    attempts: int = 1,
    request: Request | None = None,
    **rules: Any,
) -> Asked:
    stage = Stage()
    retry = RetryPolicy(max_attempts=attempts, jitter=0.0)
    targets = [
        stage.target(name, stream=True, slots=1, retry=retry, capabilities=("prefill", "tools"))
        for name in script
    ]
    exchange = StreamExchange(on_interrupt)
    asked = stage.ask(*targets, script=script, exchange=exchange, request=request, **rules)
    assert all(target.pool is not None and target.pool.in_use == 0 for target in targets)
    return asked


def shown(asked: Asked) -> str:
    return "".join(each.text for each in asked.played.emitted if isinstance(each, TextDelta))


@pytest.mark.parametrize("on_interrupt", ["restart", "continue"])
def test_a_content_filter_after_content_is_not_routed_around(on_interrupt: OnInterrupt) -> None:
    filtered = ["one", e.ContentFilterError("refused", status=400)]
    asked = stream({"a": [filtered], "b": ["never"]}, on_interrupt)
    assert asked.order == ["a"]
    assert isinstance(asked.error, e.StreamInterruptedError)
    assert isinstance(asked.error.__cause__, e.ContentFilterError)
    assert asked.error.partial == "one"
    assert "refused" in asked.error.message
    assert "fallback_on_content_filter" in (asked.error.hint or "")


def test_a_content_filter_falls_back_when_the_manager_allows_it() -> None:
    filtered = ["one", e.ContentFilterError("refused", status=400)]
    script = {"a": [filtered], "b": ["other"]}
    asked = stream(script, "restart", fallback_on_content_filter=True)
    assert asked.text == "other"


class TestContinue:
    def test_a_refused_prefill_goes_to_the_next_target(self) -> None:
        refused = faults.status(400)
        asked = stream({"a": [CUT], "b": [refused], "c": [" two"]}, "continue")
        assert asked.order == ["a", "b", "c"]
        assert asked.text == "one two"

    @pytest.mark.parametrize("step", [faults.status(400), overloaded(), ConnectionError("down")])
    def test_without_another_target_the_interruption_is_raised(self, step: Any) -> None:
        asked = stream({"a": [CUT], "b": [step]}, "continue")
        assert isinstance(asked.error, e.StreamInterruptedError)
        assert asked.error.partial == "one"
        assert asked.error.model == "a"
        assert [entry.model for entry in asked.ledger.sent] == ["a", "b"]
        assert asked.ledger.answered_by is None

    @pytest.mark.parametrize(
        "request_",
        [
            Request(prompt="hi", tools=(ToolSpec("look"),)),
            Request(prompt="hi", response_format={"type": "json_object"}),
            Request(prompt="hi", params={"thinking": {"budget_tokens": 2000}}),
            Request(prompt="hi", params={"reasoning_effort": "high"}),
            Request(prompt="hi", params={"response_format": {"type": "json_object"}}),
        ],
    )
    def test_tools_json_and_reasoning_are_never_prefilled(self, request_: Request) -> None:
        asked = stream({"a": [CUT], "b": ["never"]}, "continue", request=request_)
        assert asked.order == ["a"]
        assert isinstance(asked.error, e.StreamInterruptedError)

    def test_the_prefill_is_one_message_however_often_it_breaks(self) -> None:
        broken = [["-", BROKEN]]
        asked = stream({"a": [CUT], "b": broken, "c": ["fin"]}, "continue")
        messages = asked.played.requests[2][1].messages
        assert [(str(each.role), each.text) for each in messages] == [
            ("user", "hi"),
            ("assistant", "one-"),
        ]

    @given(
        shown_first=st.text("ab \n\té🦊", min_size=1, max_size=6),
        rest=st.text("ab \n\té🦊", max_size=6),
        cuts=st.lists(st.integers(0, 12), max_size=4),
        repeats_blank=st.booleans(),
    )
    def test_the_seam_has_no_gap_and_no_duplicate(
        self, shown_first: str, rest: str, cuts: list[int], repeats_blank: bool
    ) -> None:
        kept = shown_first.rstrip()
        lost = shown_first[len(kept) :]
        # A model begins after the prefill: it says the lost white space again, or it does not.
        answer = lost + rest if repeats_blank else rest.lstrip()
        assume(answer)
        places = sorted({min(cut, len(answer)) for cut in cuts} | {0, len(answer)})
        chunks = [answer[a:b] for a, b in pairwise(places)]
        asked = stream({"a": [[shown_first, BROKEN]], "b": [[*chunks, End()]]}, "continue")
        expected = shown_first + (rest if repeats_blank else rest.lstrip())
        assert shown(asked) == asked.text == expected


class TestRestart:
    def test_the_only_target_is_asked_again_within_its_attempts(self) -> None:
        asked = stream({"a": [CUT, CUT, "complete"]}, "restart", attempts=3)
        assert asked.text == "complete"
        restarts = [each for each in asked.played.emitted if isinstance(each, Restart)]
        assert [(each.model, each.discarded) for each in restarts] == [("a", "one")] * 2
        assert asked.played.sleeps == (1.0, 2.0)
        assert [entry.number for entry in asked.ledger] == [1, 2, 3]

    def test_the_last_target_is_asked_again_after_the_others(self) -> None:
        asked = stream({"a": [CUT], "b": [CUT, "complete"]}, "restart", attempts=2)
        assert asked.order == ["a", "b", "b"]
        assert asked.text == "complete"

    def test_used_up_attempts_raise_with_a_hint_for_this_mode(self) -> None:
        asked = stream({"a": [CUT, CUT]}, "restart", attempts=2)
        assert isinstance(asked.error, e.StreamInterruptedError)
        assert asked.error.partial == "one"
        assert "max_attempts" in str(asked.error)
        assert "use on_interrupt='restart'" not in str(asked.error)


def test_a_model_may_pause_longer_than_its_first_token_limit() -> None:
    """The sockets of an endpoint get the limit of later silences, not that of the first content."""
    stage = Stage()
    target = stage.target(stream=True, first_token_timeout=2.0, timeout=20.0)
    target.endpoint = replace(target.endpoint, timed=True)
    asked = stage.ask(target, script={"a": ["one"]}, exchange=StreamExchange("raise"))
    assert [request.timeout for _, request in asked.played.requests] == [20.0]
