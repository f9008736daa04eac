"""Checks that count their own retries: a rejected response starts the request anew."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit import BreakerPolicy, LLMError, LLMManager, RetryPolicy, StructuredOutputError
from agentkit.testing import FakeClock
from agentkit.types import Message, MessageRole, Request, Response

both = pytest.mark.parametrize("mode", ["sync", "async"])


class Longer:
    """Accepts answers that are longer than `than`."""

    def __init__(self, than: int, *, retries: int, delay: float = 0.0) -> None:
        self.than = than
        self.retries = retries
        self.delay = delay
        self.seen: list[str] = []

    def accept(self, response: Response[Any]) -> Response[Any]:
        self.seen.append(response.text)
        if len(response.text) > self.than:
            return replace(response, parsed=len(response.text))
        raise StructuredOutputError("too short", raw=response.text, violations=["too short"])

    def again(self, asked: Request, rejected: StructuredOutputError) -> Request:
        remark = Message(MessageRole.USER, rejected.violations[0])
        return replace(asked, prompt=None, messages=(*asked.conversation, remark))


def run(llm: LLMManager, mode: str, check: Longer) -> Response[Any]:
    request = Request(prompt="say something")
    if mode == "sync":
        return llm.dispatcher.run(request, check=check)
    return asyncio.run(llm.dispatcher.arun(request, check=check))


def manager(
    *answers: str, clock: FakeClock | None = None, deadline: float | None = None
) -> tuple[LLMManager, list[int]]:
    """A manager with a fallback, and the number of messages of each request."""
    script, sent = iter(answers), []

    def model(messages: Any, kwargs: Any) -> str:
        sent.append(len(messages))
        return next(script)

    llm = LLMManager(enable_caching=False, clock=clock or FakeClock(), deadline=deadline)
    llm.register_model("first", model)
    llm.register_model("second", lambda prompt, kwargs: "never asked")
    llm.set_fallback_chain(["first", "second"])
    return llm, sent


@both
def test_each_rejected_response_starts_the_request_anew(mode: str) -> None:
    llm, sent = manager("a", "bb", "ccc")
    check = Longer(2, retries=2)
    response = run(llm, mode, check)
    assert (response.text, response.parsed) == ("ccc", 3)
    assert check.seen == ["a", "bb", "ccc"]
    assert sent == [1, 2, 3]
    outcomes = [(entry.model, entry.outcome) for entry in response.ledger]
    assert outcomes == [("first", "success")] * 3


@both
def test_the_last_rejection_is_raised_and_no_other_model_is_asked(mode: str) -> None:
    llm, _ = manager("a", "b")
    with pytest.raises(StructuredOutputError, match="too short") as raised:
        run(llm, mode, Longer(2, retries=1))
    assert raised.value.ledger is not None
    assert [entry.model for entry in raised.value.ledger] == ["first", "first"]


@both
def test_the_delay_is_slept_before_each_repetition(mode: str) -> None:
    clock = FakeClock()
    llm, _ = manager("a", "b", "long enough", clock=clock)
    began = clock()
    run(llm, mode, Longer(2, retries=3, delay=0.5))
    assert clock() - began == pytest.approx(1.0)


@both
def test_the_delay_ends_with_the_deadline(mode: str) -> None:
    clock = FakeClock()
    llm, _ = manager("a", "b", clock=clock, deadline=0.25)
    began = clock()
    with pytest.raises(LLMError):
        run(llm, mode, Longer(2, retries=1, delay=0.5))
    assert clock() - began == pytest.approx(0.25)


class City(BaseModel):
    name: str


def test_a_probe_whose_response_is_rejected_makes_room_for_another() -> None:
    clock, answers = FakeClock(), iter(["", "no JSON", '{"name": "Rome"}'])

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        answer = next(answers)
        if not answer:
            raise ConnectionError("down")
        return answer

    llm = LLMManager(
        enable_caching=False,
        clock=clock,
        retry=RetryPolicy(max_attempts=1),
        breaker=BreakerPolicy(failure_threshold=1, recovery_timeout=5),
    )
    llm.register_model("m", model)
    with pytest.raises(LLMError):
        llm.complete("hi")
    clock.advance(6)
    with pytest.raises(StructuredOutputError):
        llm.complete("hi", response_model=City)
    assert llm.complete("hi", response_model=City).parsed == City(name="Rome")
