"""Calls of tools that act once: announced, carried out, and in doubt after a crash in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentkit.agent.calls import PendingCall, ToolResult
from agentkit.agent.result import AgentResult
from agentkit.agent.runs.store import RunStore
from agentkit.errors import ConfigurationError, InDoubtError, JournalError
from agentkit.output.tools import ToolContext, tool, tool_spec
from agentkit.types import Response, ToolCall, ToolSpec
from tests.agent.journal.helpers import (
    ConcurrentJournal,
    DictJournal,
    KilledError,
    Plan,
    World,
    agent_for,
    calls,
)

ANSWERS = (calls("send", step=1), Response("done"))


class Mail:
    """A tool that is killed in its first calls, before or after it has acted."""

    def __init__(self, *, acts: bool, deaths: int = 1, **rules: Any) -> None:
        self.sent: list[str] = []
        self.keys: list[str] = []
        self._acts = acts
        self._deaths = deaths
        self.tool = tool(**rules)(self._tool())

    def _tool(self) -> Callable[..., str]:
        def send(x: int, context: ToolContext) -> str:
            """Send."""
            self.keys.append(context.effect_key)
            dies = len(self.keys) <= self._deaths
            if self._acts or not dies:
                self.sent.append(f"mail {x}")
            if dies:
                raise KilledError
            return f"sent {x}"

        return send


def killed_then_resumed(mail: Mail, **options: Any) -> AgentResult[Any]:
    store, world = RunStore("memory"), World()

    def agent() -> Any:
        return agent_for(world, Plan(world, ANSWERS), tools=[mail.tool], journal=store)

    with pytest.raises(KilledError):
        agent().run("Go.", run_id="r")
    result: AgentResult[Any] = agent().resume("r", **options)
    assert world.requests == {0: 1, **({1: 1} if result.status == "finished" else {})}
    return result


@pytest.mark.parametrize("journal", [DictJournal(), ConcurrentJournal()])
@pytest.mark.parametrize("way", ["run", "arun"])
def test_the_steps_of_a_workflow_engine_have_one_order(journal: DictJournal, way: str) -> None:
    """DBOS, Temporal and Restate number the steps, and refuse a run with another order."""
    journal.steps.clear()
    turns = 3

    @tool(effect="once")
    async def send(x: int) -> str:
        """Take the longer, the earlier it is called."""
        nonlocal turns
        mine, turns = turns, turns - 1
        for _ in range(10 * mine):
            await asyncio.sleep(0)
        return "sent"

    world = World()
    both = tuple(ToolCall(name, "send", {"x": 1}) for name in "ab")
    plan = Plan(world, (Response("", tool_calls=both), Response("done")))
    agent = agent_for(world, plan, tools=[send], journal=journal)
    result = agent.run("Go.") if way == "run" else asyncio.run(agent.arun("Go."))
    assert result.text == "done"
    steps = ["1.0.started", "1.0.result", "1.1.started", "1.1.result"]
    if isinstance(journal, ConcurrentJournal):
        steps = ["1.0.started", "1.1.started", "1.1.result", "1.0.result"]
    assert list(journal.steps) == ["start", "1.model", *steps, "2.model"]


@pytest.mark.parametrize("recorded", [None, 3, [], "x", {"version": 99}])
def test_a_record_of_something_else_is_a_journal_error(recorded: Any) -> None:
    journal, world = DictJournal(), World()
    journal.steps["1.0.result"] = recorded
    agent = agent_for(world, Plan(world, ANSWERS), journal=journal)
    with pytest.raises(JournalError, match=r"1\.0\.result cannot be read"):
        agent.run("Go.")


@pytest.mark.parametrize("effect", ["once", None])
def test_a_call_that_was_started_is_not_repeated_and_the_model_is_informed(effect: Any) -> None:
    mail = Mail(acts=True, effect=effect)
    result = killed_then_resumed(mail)
    assert mail.sent == ["mail 1"]
    (doubtful,) = result.in_doubt
    assert doubtful.error == "InDoubt"
    assert "may have taken effect or not" in result.messages[-2].text


@pytest.mark.parametrize("effect", ["none", "idempotent"])
def test_a_call_that_may_be_repeated_is(effect: Any) -> None:
    mail = Mail(acts=True, effect=effect)
    result = killed_then_resumed(mail)
    assert mail.sent == ["mail 1", "mail 1"]
    assert result.in_doubt == ()
    assert len(set(mail.keys)) == 1, "the key is the same in both processes"


def test_a_resolver_settles_a_call_in_doubt() -> None:
    asked: list[ToolCall] = []

    async def resolve(call: ToolCall, context: ToolContext) -> str:
        asked.append(call)
        assert context.effect_key == mail.keys[0]
        return "sent, by the outbox"

    mail = Mail(acts=True, effect="once", resolve=resolve)
    result = killed_then_resumed(mail)
    assert mail.sent == ["mail 1"]
    assert result.steps[0].results[0].content == "sent, by the outbox"
    assert [call.arguments for call in asked] == [{"x": 1}]


def test_a_call_that_was_not_done_is_carried_out_under_the_same_key() -> None:
    mail = Mail(acts=False, effect="once", resolve=lambda call: "not done")
    result = killed_then_resumed(mail)
    assert mail.sent == ["mail 1"]
    assert result.in_doubt == ()
    assert len(set(mail.keys)) == 1


@pytest.mark.parametrize("answer", ["unknown", ConnectionError("no outbox"), object()])
def test_a_resolver_that_does_not_know_leaves_the_call_in_doubt(answer: Any) -> None:
    def resolve(call: ToolCall) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    mail = Mail(acts=True, effect="once", resolve=resolve)
    assert killed_then_resumed(mail).in_doubt
    assert mail.sent == ["mail 1"]


def test_the_approver_decides_about_a_call_in_doubt() -> None:
    for decision, sent in (({"approve": ["send-1"]}, 2), ({"deny": ["send-1"]}, 1)):
        store, world = RunStore("memory"), World()
        mail = Mail(acts=True, effect="once", approve=True)

        def agent(world: World = world, mail: Mail = mail, store: RunStore = store) -> Any:
            return agent_for(world, Plan(world, ANSWERS), tools=[mail.tool], journal=store)

        assert agent().run("Go.", run_id="r").pending == (
            PendingCall(ToolCall("send-1", "send", {"x": 1})),
        )
        with pytest.raises(KilledError):
            agent().resume("r", approve=["send-1"])
        waiting = agent().resume("r")
        assert [each.in_doubt for each in waiting.pending] == [True]
        assert len(mail.sent) == 1
        assert agent().resume("r", **decision).text == "done"
        assert len(mail.sent) == sent


def test_a_timeout_of_a_once_tool_is_in_doubt_and_may_be_resolved() -> None:
    import threading

    never = threading.Event()

    def slow(x: int) -> str:
        """Wait for ever."""
        never.wait(10)
        return ""

    answers = (calls("slow", step=1), Response("done"))
    for rules, doubt in (
        ({"effect": "once"}, True),
        ({"effect": "once", "resolve": lambda call: "not done"}, False),
        ({"effect": "none"}, False),
        ({}, True),
    ):
        world = World()
        agent = agent_for(world, Plan(world, answers), tools=[tool(**rules)(slow)])
        result = agent.run("Go.", tool_timeout=0.02)
        assert bool(result.in_doubt) is doubt, rules
    never.set()


@pytest.mark.parametrize(
    ("effect", "calls_made", "doubt"),
    [("none", 3, False), ("idempotent", 3, False), ("once", 1, True), (None, 1, True)],
)
def test_a_tool_may_say_that_it_does_not_know(effect: Any, calls_made: int, doubt: bool) -> None:
    made: list[int] = []

    @tool(effect=effect)
    def send(x: int) -> str:
        """Send, and lose the answer."""
        made.append(x)
        raise InDoubtError("the answer was lost")

    result = agent_for(World(), Plan(World(), ANSWERS), tools=[send]).run("Go.")
    assert len(made) == calls_made
    assert bool(result.in_doubt) is doubt


def test_the_key_of_an_effect_depends_on_run_step_position_and_arguments() -> None:
    keys: list[str] = []

    @tool(effect="idempotent")
    def put(x: int, context: ToolContext) -> str:
        """Put."""
        keys.append(context.effect_key)
        assert context.run_id
        return "put"

    both = Response("", tool_calls=(ToolCall("a", "put", {"x": 1}), ToolCall("b", "put", {"x": 1})))
    for run_id in ("r1", "r2"):
        world = World()
        agent = agent_for(
            world, Plan(world, (both, calls("put", step=1), Response("done"))), tools=[put]
        )
        agent.run("Go.", run_id=run_id, journal=RunStore("memory"))
    assert len(set(keys)) == len(keys) == 6


def test_a_decorated_function_stays_what_it_is() -> None:
    @tool
    def plain(x: int) -> int:
        """Double."""
        return 2 * x

    @tool(effect="once", approve=True)
    async def pay(x: int) -> int:
        """Pay."""
        return x

    assert plain(2) == 4
    assert tool_spec(plain).effect is None
    spec = tool_spec(pay)
    assert (spec.name, spec.effect, spec.approve) == ("pay", "once", True)
    other = tool(effect="none")(ToolSpec("far", fn=plain))
    assert (other.name, other.effect) == ("far", "none")


def test_a_decorated_method_and_callable_object_keep_their_rules() -> None:
    class Shop:
        @tool(effect="once")
        def pay(self, x: int) -> int:
            """Pay."""
            return x

        @tool(effect="none")
        def __call__(self, x: int) -> int:
            """Look."""
            return x

    assert tool_spec(Shop().pay).effect == "once"
    assert tool_spec(Shop()).effect == "none"


@pytest.mark.parametrize(
    "rules", [{"effect": "twice"}, {"approve": "yes"}, {"resolve": "not done"}]
)
def test_a_rule_that_cannot_work_is_refused(rules: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        tool(**rules)
    assert caught.value.hint


def test_a_result_and_a_pending_call_round_trip_through_json() -> None:
    call = ToolCall("a", "send", {"x": 1})
    result = ToolResult(call, "text", "InDoubt", 0.5, in_doubt=True)
    assert ToolResult.from_dict(result.to_dict()) == result
    pending = PendingCall(call, in_doubt=True)
    assert PendingCall.from_dict(pending.to_dict()) == pending
    for kind in (ToolResult, PendingCall, AgentResult):
        with pytest.raises(ValueError, match="form of a"):
            kind.from_dict({})
