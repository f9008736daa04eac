"""A run that waits for approval is continued by whoever decides, once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agentkit.agent.result import AgentResult
from agentkit.agent.runs.store import RunStore
from agentkit.errors import ConfigurationError
from agentkit.output.tools import tool
from agentkit.types import Response, ToolCall
from tests.agent.journal.helpers import Plan, World, agent_for, calls


class Shop:
    """An agent with two payments to approve, and what was paid."""

    def __init__(self, approve: Any = True) -> None:
        self.paid: list[int] = []
        self.store = RunStore("memory")
        self.world = World()

        @tool(effect="once", approve=approve)
        def pay(x: int) -> str:
            """Pay."""
            self.paid.append(x)
            return f"paid {x}"

        payments = Response(
            "", tool_calls=(ToolCall("a", "pay", {"x": 10}), ToolCall("b", "pay", {"x": 999}))
        )
        plan = Plan(self.world, (payments, Response("done")))
        self.agent = agent_for(self.world, plan, tools=[pay], journal=self.store)

    def pending(self, result: AgentResult[Any]) -> list[str]:
        assert (result.status == "waiting") == bool(result.pending)
        return [each.call.id for each in result.pending]


def test_a_waiting_result_is_data() -> None:
    shop = Shop()
    result = shop.agent.run("Buy.", run_id="r")
    assert shop.pending(result) == ["a", "b"]
    assert result.text == ""
    assert AgentResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert shop.store.run("r").status == "waiting"
    assert shop.store.run("r").pending == ("a", "b")


def test_each_call_is_approved_denied_or_edited() -> None:
    shop = Shop()
    shop.agent.run("Buy.", run_id="r")
    result = shop.agent.resume("r", approve=["a"])
    assert (shop.pending(result), shop.paid) == (["b"], [10])
    result = shop.agent.resume("r", edit={"b": {"x": 99}})
    assert (result.text, shop.paid) == ("done", [10, 99])
    (_, edited) = result.steps[0].results
    assert edited.call.arguments == {"x": 99}
    assert edited.content == '[carried out with the arguments {"x":99}]\npaid 99'

    shop = Shop()
    shop.agent.run("Buy.", run_id="r")
    result = asyncio.run(shop.agent.aresume("r", deny={"a": "too dear", "b": ""}))
    assert [each.content for each in result.steps[0].results] == [
        "Denied: too dear",
        "Denied: the call was not approved",
    ]
    assert shop.paid == []


def test_an_approval_is_consumed_once() -> None:
    shop = Shop()
    shop.agent.run("Buy.", run_id="r")
    shop.agent.resume("r", approve=["a"])
    with pytest.raises(ConfigurationError, match="'a' does not wait") as caught:
        shop.agent.resume("r", approve=["a"])
    assert caught.value.hint == "waiting: b"
    shop.agent.resume("r", approve="b")
    with pytest.raises(ConfigurationError, match="'b' does not wait"):
        shop.agent.resume("r", approve=["b"])
    assert shop.paid == [10, 999]
    assert shop.world.requests.total() == 2


def test_a_decision_about_another_call_changes_nothing() -> None:
    shop = Shop()
    shop.agent.run("Buy.", run_id="r")
    before = shop.store.steps("r")
    with pytest.raises(ConfigurationError):
        shop.agent.resume("r", approve=["a"], deny={"zz": "no"})
    with pytest.raises(ConfigurationError, match="two decisions"):
        shop.agent.resume("r", approve=["a"], deny=["a"])
    assert shop.store.steps("r") == before
    assert shop.store.run("r").status == "waiting"


@pytest.mark.parametrize(
    "decision",
    [
        {"edit": {"a": [1]}},
        {"edit": {"a": None}},
        {"edit": {"a": {1: 2}}},
        {"edit": {"a": {"x": object()}}},
        {"deny": {"a": object()}},
    ],
)
def test_a_decision_that_cannot_be_recorded_is_refused_before_the_run(decision: Any) -> None:
    shop = Shop()
    shop.agent.run("Buy.", run_id="r")
    before = shop.store.steps("r")
    with pytest.raises(ConfigurationError, match="for call 'a'"):
        shop.agent.resume("r", **decision)
    assert shop.store.steps("r") == before
    assert shop.store.run("r").status == "waiting"


def test_resuming_without_a_decision_waits_on() -> None:
    shop = Shop()
    shop.agent.run("Buy.", run_id="r")
    assert shop.pending(shop.agent.resume("r")) == ["a", "b"]
    assert shop.pending(shop.agent.run("Buy.", run_id="r")) == ["a", "b"]


def test_a_function_chooses_the_calls_and_its_choice_is_recorded() -> None:
    asked: list[int] = []

    def dear(call: ToolCall) -> bool:
        asked.append(call.arguments["x"])
        return bool(call.arguments["x"] > 100)

    shop = Shop(dear)
    assert shop.pending(shop.agent.run("Buy.", run_id="r")) == ["b"]
    assert shop.paid == [10]
    assert shop.agent.resume("r", approve=["b"]).text == "done"
    assert shop.paid == [10, 999]
    assert sorted(asked) == [10, 999]


def test_other_tools_of_the_step_run_before_it_waits() -> None:
    from tests.agent.journal.helpers import tools_of

    world = World()
    plan = Plan(world, (calls("look", "pay", step=1), Response("done")))
    result = agent_for(world, plan, tools=tools_of(world)).run("Go.", journal="memory")
    assert result.status == "waiting"
    assert [each.content for each in result.steps[0].results] == ["saw 1"]
