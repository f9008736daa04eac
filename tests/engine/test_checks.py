"""Checks that count their own retries: a rejected response starts the request anew."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agentkit import LLMManager, StructuredOutputError
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


def manager(*answers: str, clock: FakeClock | None = None) -> tuple[LLMManager, list[int]]:
    """A manager with a fallback, and the number of messages of each request."""
    script, sent = iter(answers), []

    def model(messages: Any, kwargs: Any) -> str:
        sent.append(len(messages))
        return next(script)

    llm = LLMManager(enable_caching=False, clock=clock or FakeClock())
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
