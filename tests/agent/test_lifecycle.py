"""The states of an agent are a table: what it does not list is refused."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.agent.agent import Agent
from agentkit.agent.lifecycle import TRANSITIONS, Action, Lifecycle, State
from agentkit.errors import AgentStateError
from tests.agent.fakes import FakeManager
from tests.forks import forks, in_child

ACTIONS: tuple[Action, ...] = ("start", "pause", "resume", "stop")
WAYS: dict[State, tuple[Action, ...]] = {
    "initialized": (),
    "running": ("start",),
    "paused": ("start", "pause"),
    "stopped": ("start", "stop"),
}
EXPECTED = {
    ("initialized", "start"): "running",
    ("initialized", "stop"): "stopped",
    ("running", "pause"): "paused",
    ("running", "stop"): "stopped",
    ("paused", "resume"): "running",
    ("paused", "stop"): "stopped",
    ("stopped", "start"): "running",
}


def agent_in(state: State) -> Agent:
    agent = Agent("helper", "tester", config={"llm_manager": FakeManager()})
    for action in WAYS[state]:
        getattr(agent, action)()
    assert agent.status == state
    return agent


@pytest.mark.promise("S3-32")
@pytest.mark.parametrize("state", WAYS)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_in_every_state_moves_or_is_refused(state: State, action: Action) -> None:
    agent = agent_in(state)
    if (state, action) in EXPECTED:
        getattr(agent, action)()
        assert agent.status == EXPECTED[state, action]
        return
    with pytest.raises(AgentStateError) as caught:
        getattr(agent, action)()
    assert agent.status == state, "a refused action changes nothing"
    message = str(caught.value)
    assert "'helper'" in message
    assert state in message
    assert f"{action}()" in message
    assert all(f"{allowed}()" in message for allowed in TRANSITIONS[state])


@pytest.mark.parametrize(
    ("state", "remedy"),
    [("initialized", "start()"), ("paused", "resume()"), ("stopped", "start()")],
)
def test_nothing_runs_unless_the_agent_is_running(state: State, remedy: str) -> None:
    """Elsewhere tasks ran before the start, while paused and after the stop."""
    agent = agent_in(state)
    ran: list[str] = []

    def refused(work: object) -> None:
        with pytest.raises(AgentStateError, match="not allowed") as caught:
            work() if callable(work) else None
        assert f"{remedy} makes it run" in str(caught.value)

    refused(lambda: agent.execute_task(ran.append, "x"))
    refused(lambda: agent.ask("hello"))
    refused(lambda: asyncio.run(agent.aexecute_task(ran.append, "x")))
    refused(lambda: asyncio.run(agent.aask("hello")))
    assert ran == []
    assert agent.get_performance_metrics()["total_tasks"] == 0
    assert agent.error_log == ()


def test_a_task_under_way_outlives_a_stop() -> None:
    agent = agent_in("running")

    def stopping() -> str:
        agent.stop()
        return "done"

    assert agent.execute_task(stopping) == "done"
    assert agent.get_performance_metrics()["successful_tasks"] == 1
    assert agent.status == "stopped"


@given(st.lists(st.sampled_from(ACTIONS), max_size=20))
def test_no_sequence_of_actions_leaves_the_table(actions: list[Action]) -> None:
    life = Lifecycle("helper")
    expected: State = "initialized"
    for action in actions:
        following = TRANSITIONS[expected].get(action)
        if following is None:
            with pytest.raises(AgentStateError):
                life.apply(action)
        else:
            life.apply(action)
            expected = following
        assert life.state == expected


def test_of_many_threads_exactly_one_starts_the_agent() -> None:
    agent = Agent("helper", "tester")
    barrier = threading.Barrier(16)
    refusals: list[AgentStateError] = []

    def start() -> None:
        barrier.wait()
        try:
            agent.start()
        except AgentStateError as refusal:
            refusals.append(refusal)

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == 15
    assert agent.status == "running"


@forks
def test_a_forked_child_continues_with_the_state_and_counters_of_its_parent() -> None:
    agent = Agent("helper", "tester")
    agent.start()
    agent.execute_task(int)

    def work() -> str:
        agent.execute_task(int)
        agent.stop()
        return f"{agent.status}, {agent.get_performance_metrics()['successful_tasks']}"

    assert in_child(work) == "stopped, 2"
    assert agent.status == "running"
