"""A memory that summarises its oldest turns, and one that all processes share."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentkit.agent.agent import Agent
from agentkit.agent.memory import Memory
from agentkit.agent.runs.store import RunStore
from agentkit.errors import ConfigurationError, ServerError
from agentkit.manager.manager import LLMManager
from agentkit.testing import ScriptedModel
from agentkit.types import Message, MessageRole, Request, Response, ToolCall, Usage


class Model:
    """Keeps its requests, and answers what it is given, or an answer for each number."""

    capabilities = frozenset({"messages", "tools"})

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []

    def send(self, request: Request) -> Response[Any]:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Response(answer, Usage(10, 1))


def agent_with(talker: Any, summarizer: Any, memory: Memory, **options: Any) -> Agent:
    llm = LLMManager(enable_caching=False, max_retries=1)
    llm.register_model("talker", talker, {"cost_per_1k_tokens": 1.0})
    llm.register_model("small", summarizer, {"cost_per_1k_tokens": 1.0})
    llm.set_active_model("talker")
    return Agent(llm, memory=memory, **options)


def long_talk(memory: Memory) -> None:
    for number in range(4):
        memory.add(
            Message(MessageRole.USER, f"question {number} " + "word " * 60),
            Message(MessageRole.ASSISTANT, f"answer {number}"),
        )


@pytest.mark.parametrize("way", ["sync", "async"])
def test_the_oldest_turns_are_summarised_by_the_named_model(way: str) -> None:
    memory = Memory(max_tokens=250, summarize_with="small")
    long_talk(memory)
    talker, small = Model("Fine."), Model("They asked three questions.")
    agent = agent_with(talker, small, memory)
    result = agent.run("And now?") if way == "sync" else asyncio.run(agent.arun("And now?"))
    assert "question 0" in small.requests[0].messages[1].text
    sent = [each.text for each in talker.requests[0].messages]
    assert sent[0] == "Summary of the earlier conversation:\nThey asked three questions."
    assert sent[-1] == "And now?"
    assert not any("question 0" in text for text in sent)
    assert memory.messages == result.messages
    assert result.usage == Usage(20, 2)
    assert result.cost == pytest.approx(0.022)


def test_a_later_summary_contains_the_earlier_one() -> None:
    memory = Memory(max_tokens=250, summarize_with="small")
    long_talk(memory)
    small = Model("first summary", "second summary")
    agent = agent_with(Model("Fine.", "Fine."), small, memory)
    agent.run("And now?")
    long_talk(memory)
    agent.run("And then?")
    assert "first summary" in small.requests[1].messages[1].text
    texts = [each.text for each in memory.messages if each.role is MessageRole.SYSTEM]
    assert texts == ["Summary of the earlier conversation:\nsecond summary"]


def test_a_summary_is_a_recorded_step_and_is_paid_once() -> None:
    store, memory = RunStore("memory"), Memory(max_tokens=250, summarize_with="small")
    long_talk(memory)
    small = Model("a summary")
    agent = agent_with(Model(ServerError("down"), "Fine."), small, memory, journal=store)
    with pytest.raises(ServerError):
        agent.run("And now?", run_id="r")
    result = agent.resume("r")
    assert result.text == "Fine."
    assert len(small.requests) == 1
    names = [each.name for each in store.steps("r")]
    assert names == ["start", "0.summary", "1.failed-1", "1.model"]
    assert [each.text for each in memory.messages].count("And now?") == 1


def test_a_summary_that_fails_only_forgets() -> None:
    memory = Memory(max_tokens=250, summarize_with="small")
    long_talk(memory)
    talker = Model("Fine.")
    agent_with(talker, Model(ServerError("down")), memory).run("And now?")
    assert not any("question 0" in each.text for each in talker.requests[0].messages)


def test_old_tool_results_are_shortened_first() -> None:
    memory = Memory(max_tokens=500, summarize_with="small")
    calls = [ToolCall(str(number), "look", {}) for number in range(2)]
    conversation = [Message(MessageRole.USER, "Look twice.")]
    for call in calls:
        conversation += [
            Message(MessageRole.ASSISTANT, "", tool_calls=(call,)),
            Message(MessageRole.TOOL, "long " * 300, tool_call_id=call.id),
        ]
    old, new = (each.text for each in memory.fit(conversation) if each.role is MessageRole.TOOL)
    assert old.endswith("[shortened]")
    assert len(old) < 250
    assert new == "long " * 300
    assert memory.excess(conversation[:3], [Message(MessageRole.USER, "hi")]) is None


def test_a_conversation_that_fits_is_left_alone() -> None:
    memory = Memory(max_tokens=10_000, summarize_with="small")
    long_talk(memory)
    agent_with(Model("Fine."), Model(), memory).run("And now?")
    assert len(memory) == 10


def test_a_memory_in_a_journal_is_shared_and_survives(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/j.sqlite"
    for number in range(2):
        memory = Memory(max_messages=50, name="customer-7", journal=url)
        agent = agent_with(Model(f"Hello {number}."), Model(), memory, journal=url)
        for _ in range(2):
            agent.run(f"Hi {number}.", run_id=f"r{number}")
    texts = ["Hi 0.", "Hello 0.", "Hi 1.", "Hello 1."]
    memory = Memory(name="customer-7", journal=url)
    assert [each.text for each in memory.messages] == texts
    other = Memory(name="customer-8", journal=url)
    assert (other.messages, len(memory)) == ((), 4)
    assert repr(memory) == "<Memory 'customer-7' 4 messages>"
    memory.clear()
    assert Memory(name="customer-7", journal=RunStore(url)).messages == ()


@pytest.mark.parametrize(
    "arguments",
    [
        {"summarize_with": "small"},
        {"name": "customer-7"},
        {"journal": "memory"},
        {"name": "customer-7", "journal": ScriptedModel()},
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: Any) -> None:
    with pytest.raises(ConfigurationError):
        Memory(**arguments)
