"""A memory forgets its oldest turns, and never more than necessary."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.agent.agent import Agent
from agentkit.agent.memory import Memory, turns_of
from agentkit.errors import ConfigurationError, ServerError
from agentkit.manager.manager import LLMManager
from agentkit.policy.limits import estimate_need
from agentkit.testing import ScriptedModel
from agentkit.types import Message, MessageRole, Request, Response, ToolCall
from tests.agent.runs import Go, Model, agent_of, each_way, want, weather

SYSTEM = Message(MessageRole.SYSTEM, "Be brief.")


def user(text: str) -> Message:
    return Message(MessageRole.USER, text)


def answer(text: str) -> Message:
    return Message(MessageRole.ASSISTANT, text)


def looked_up(call_id: str) -> tuple[Message, Message]:
    """A tool call and its result."""
    call = ToolCall(call_id, "look", {"what": call_id})
    return (
        Message(MessageRole.ASSISTANT, "", tool_calls=(call,)),
        Message(MessageRole.TOOL, "found", tool_call_id=call_id),
    )


def tokens(messages: tuple[Message, ...]) -> int:
    """Message by message, each rounded up, so never less than the estimate of all."""
    return sum(estimate_need(Request(messages=(each,))).input_tokens for each in messages)


def test_without_bounds_everything_is_remembered_with_system_messages_first() -> None:
    memory = Memory()
    memory.add(user("1"), answer("one"), SYSTEM, user("2"), answer("two"))
    memory.add(SYSTEM, user("3"))
    assert [each.text for each in memory.messages] == ["Be brief.", "1", "one", "2", "two", "3"]
    assert len(memory) == 6
    memory.clear()
    assert memory.messages == ()


def test_the_oldest_turns_are_dropped_first() -> None:
    memory = Memory(max_messages=6)
    memory.add(SYSTEM, user("1"), *looked_up("a"), answer("one"))
    memory.add(user("2"), answer("two"), user("3"), answer("three"))
    assert [each.text for each in memory.messages] == ["Be brief.", "2", "two", "3", "three"]


def test_the_newest_turn_is_always_kept() -> None:
    memory = Memory(max_messages=2, max_tokens=1)
    memory.add(user("1"), answer("one"))
    memory.add(SYSTEM, user("2"), *looked_up("a"), *looked_up("b"), answer("two"))
    assert memory.messages[0] == SYSTEM
    assert memory.messages[1] == user("2")
    assert len(memory) == 7


def test_tokens_are_bounded_by_the_estimate() -> None:
    memory = Memory(max_tokens=100)
    for number in range(50):
        memory.add(user(f"question {number} " + "x" * 40), answer("y" * 40))
        assert tokens(memory.messages) <= 100
    assert len(memory) >= 4


def test_a_word_between_a_tool_call_and_its_result_begins_no_turn() -> None:
    call, result = looked_up("a")
    turns = turns_of([user("1"), call, user("hurry"), result, answer("one"), user("2")])
    assert [len(turn) for turn in turns] == [5, 1]


@pytest.mark.parametrize("bounds", [{"max_messages": 0}, {"max_tokens": -1}, {"max_tokens": 1.5}])
def test_a_bound_that_cannot_work_is_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Memory(**bounds)


exchanges = st.lists(
    st.sampled_from(["user", "answer", "call", "calls", "system"]), min_size=1, max_size=40
)


def conversation(kinds: list[str]) -> list[Message]:
    messages: list[Message] = []
    for index, kind in enumerate(kinds):
        if kind == "user":
            messages.append(user(f"question {index}"))
        elif kind == "answer":
            messages.append(answer(f"answer {index}"))
        elif kind == "system":
            messages.append(Message(MessageRole.SYSTEM, f"rule {index}"))
        else:
            ids = [f"{index}-{n}" for n in range(1 if kind == "call" else 3)]
            calls = tuple(ToolCall(each, "look") for each in ids)
            messages.append(Message(MessageRole.ASSISTANT, "", tool_calls=calls))
            messages += [Message(MessageRole.TOOL, "x", tool_call_id=each) for each in ids]
    return messages


@given(exchanges, st.none() | st.integers(1, 20), st.none() | st.integers(1, 200))
def test_whatever_is_forgotten_what_is_left_can_be_sent(
    kinds: list[str], most: int | None, heaviest: int | None
) -> None:
    messages = conversation(kinds)
    kept = Memory(most, heaviest).fit(messages)
    rules = [each for each in messages if each.role is MessageRole.SYSTEM]
    rest = [each for each in messages if each.role is not MessageRole.SYSTEM]
    tail = list(kept[len(rules) :])
    assert list(kept[: len(rules)]) == rules
    assert tail == (rest[-len(tail) :] if tail else [])
    calls = [call.id for each in kept for call in each.tool_calls]
    results = [each.tool_call_id for each in kept if each.role is MessageRole.TOOL]
    assert calls == results, "no call without its result, no result without its call"
    turns = turns_of(tail)
    if len(turns) > 1:
        assert most is None or len(kept) <= most
        assert heaviest is None or tokens(kept) <= heaviest
    forgotten = rest[: len(rest) - len(tail)]
    if forgotten:
        one_more = (*rules, *turns_of(forgotten)[-1], *tail)
        too_many = most is not None and len(one_more) > most
        assert too_many or (heaviest is not None and tokens(one_more) > heaviest)


def test_many_threads_may_add_at_once() -> None:
    memory = Memory()

    def work(who: int) -> None:
        for number in range(50):
            memory.add(user(f"{who}-{number}"), answer(f"{who}-{number}"))

    threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [each.text for each in memory.messages]
    assert len(texts) == 800
    assert texts[::2] == texts[1::2], "turns stay together"


# In an agent.


@each_way
def test_a_run_continues_where_the_last_one_ended(go: Go) -> None:
    model = Model(want("weather", city="Paris"), "Sunny.", "Also sunny.")
    memory = Memory()
    agent = agent_of(model, config={"memory": memory})
    go(agent, [SYSTEM, user("Weather in Paris?")], tools=[weather])
    result = go(agent, "And in Rome?", tools=[weather])
    roles = [str(each.role) for each in model.requests[2].messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert result.messages == memory.messages
    assert len(memory) == 7


@each_way
def test_a_memory_of_the_run_comes_before_the_agents(go: Go) -> None:
    agents, own = Memory(), Memory()
    agent = agent_of(Model(then="ok"), config={"memory": agents})
    go(agent, "Hi", memory=own)
    assert (len(agents), len(own)) == (0, 2)


@each_way
def test_a_run_that_fails_is_not_remembered(go: Go) -> None:
    memory = Memory()
    model = Model(want("weather", city="Paris"), ServerError("down"))
    with pytest.raises(ServerError):
        go(agent_of(model), "Hi", tools=[weather], memory=memory)
    assert len(memory) == 0


@each_way
def test_what_is_sent_stays_within_the_bounds_while_a_run_grows(go: Go) -> None:
    memory = Memory(max_messages=5)
    memory.add(user("1"), answer("one"), user("2"), answer("two"))
    model = Model(want("weather", city="Paris"), want("weather", "call-2", city="Rome"), "ok")
    result = go(agent_of(model), "3", tools=[weather], memory=memory)
    assert [len(request.messages) for request in model.requests] == [5, 5, 5]
    assert [each.messages[0].text for each in model.requests] == ["1", "2", "3"]
    assert len(result.messages) == 10, "the result has the complete conversation"
    assert memory.messages[0].text == "3"


def test_call_ids_differ_from_remembered_ones() -> None:
    memory = Memory()
    model = Model(want("weather", city="Paris"), "ok", want("weather", city="Rome"), "ok")
    agent = agent_of(model, config={"memory": memory})
    agent.run("1", tools=[weather])
    agent.run("2", tools=[weather])
    ids = [call.id for each in memory.messages for call in each.tool_calls]
    assert ids == ["call-1", "call-1-2"]


def test_a_plain_callable_gets_the_conversation_as_text() -> None:
    model = ScriptedModel(Response("Hello Ann."), "Ann.")
    manager = LLMManager(enable_caching=False)
    manager.register_model("m", model)
    agent = Agent("helper", "tester", config={"llm_manager": manager, "memory": Memory()})
    agent.start()
    agent.run("I am Ann.")
    agent.run("Who am I?")
    assert model.calls[1].prompt == "user: I am Ann.\nassistant: Hello Ann.\nuser: Who am I?"


def test_an_object_that_is_not_a_memory_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="memory"):
        Agent("helper", "tester", config={"memory": []})
