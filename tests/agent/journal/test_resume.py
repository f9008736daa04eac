"""A run that dies between any two statements continues elsewhere, and does nothing twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from agentkit.agent.result import AgentResult
from agentkit.agent.runs.store import RunStore
from agentkit.errors import (
    AgentError,
    AgentStateError,
    ConfigurationError,
    DeadlineExceededError,
    JournalError,
    LLMError,
    RunChangedError,
    RunConflictError,
    ServerError,
    StructuredOutputError,
)
from agentkit.output.tools import tool
from agentkit.types import Message, Response, Usage
from tests.agent.fakes import HandClock
from tests.agent.journal.helpers import (
    ANSWERS,
    KilledError,
    Killer,
    MortalStore,
    Plan,
    World,
    agent_for,
    calls,
    tools_of,
)


def run(agent: Any, *args: Any, **kwargs: Any) -> AgentResult[Any]:
    result: AgentResult[Any] = agent.run(*args, **kwargs)
    return result


def arun(agent: Any, *args: Any, **kwargs: Any) -> AgentResult[Any]:
    return asyncio.run(agent.arun(*args, **kwargs))


def stream(agent: Any, *args: Any, **kwargs: Any) -> AgentResult[Any]:
    with agent.stream(*args, **kwargs) as events:
        for _ in events:
            pass
    result: AgentResult[Any] = events.result
    return result


def astream(agent: Any, *args: Any, **kwargs: Any) -> AgentResult[Any]:
    async def main() -> AgentResult[Any]:
        async with agent.astream(*args, **kwargs) as events:
            async for _ in events:
                pass
        result: AgentResult[Any] = events.result
        return result

    return asyncio.run(main())


Go = Callable[..., AgentResult[Any]]
each_way = pytest.mark.parametrize("go", [run, arun, stream, astream])


def to_the_end(go: Go, world: World, url: str, kill_at: int | None) -> tuple[AgentResult[Any], int]:
    """Run in one process that is killed, and then in others; how many points the first passed."""
    killer = Killer(kill_at)
    store = MortalStore(url, killer)
    try:
        go(agent_for(world), "Go.", run_id="r", journal=store)
    except KilledError:
        pass
    finally:
        store.close()
    agent = agent_for(world, journal=url)
    result = go(agent, "Go.", run_id="r")
    while result.status == "waiting":
        (pending,) = result.pending
        assert pending.call.name == "pay"
        if pending.in_doubt and world.most("pay"):
            result = agent.resume("r", deny={pending.call.id: "it was paid"})
        else:
            result = agent.resume("r", approve=[pending.call.id])
    return result, killer.passed


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder in memory, if there is one: no test here pulls the plug."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield name


@each_way
def test_a_run_that_is_killed_anywhere_finishes_and_does_nothing_twice(go: Go, folder: str) -> None:
    _, points = to_the_end(go, World(), f"sqlite:///{folder}/count.sqlite", None)
    assert points > 40
    # Every point of one way; of the others, which record alike, a third, others in each run.
    some = range(1, points + 1) if go is run else range(random.randint(1, 3), points + 1, 3)
    doubts = 0
    for at in some:
        world = World()
        result, _ = to_the_end(go, world, f"sqlite:///{folder}/{at}.sqlite", at)
        assert result.text == "done"
        for what in ("send", "guess", "pay"):
            assert world.most(what) <= 1, f"{what} after a kill at {at}"
        answered = world.requests.total()
        assert answered <= len(ANSWERS) + 1, "only the answer that was not recorded is asked again"
        missing = {"send", "guess", "pay"} - {key.split()[0] for key in world.effects}
        assert missing <= {each.call.name for each in result.in_doubt}, "nothing is lost silently"
        doubts += len(result.in_doubt)
    assert doubts > 0


@each_way
def test_a_finished_run_returns_its_result_again_and_asks_for_nothing(go: Go, folder: str) -> None:
    url, world = f"sqlite:///{folder}/j.sqlite", World()
    first, _ = to_the_end(go, world, url, None)
    before = world.requests.total(), world.effects.total()
    again = go(agent_for(world, journal=url), "Go.", run_id="r")
    assert again == first
    assert again.usage == Usage(30, 20)
    assert again.cost == pytest.approx(0.05)
    assert (world.requests.total(), world.effects.total()) == before


def test_without_a_journal_nothing_is_recorded_and_results_stay_as_they_were() -> None:
    world = World()
    plan = Plan(world, (calls("look", step=1), Response("done")))
    result = agent_for(world, plan).run("Go.", tools=tools_of(world)[:2])
    assert result.text == "done"
    assert result.status == "finished"
    assert result.run_id


def test_a_run_id_needs_a_journal_and_approval_does_too() -> None:
    with pytest.raises(ConfigurationError, match="no journal"):
        agent_for(World()).run("Go.", run_id="r")
    with pytest.raises(ConfigurationError, match="approval"):
        agent_for(World()).run("Go.", tools=tools_of(World()))


def test_a_run_that_failed_continues_after_its_last_step() -> None:
    world = World()

    class Broken(Plan):
        def send(self, request: Any) -> Response[Any]:
            if len(request.messages) > 3:
                raise ServerError("down")
            return super().send(request)

    answers = (calls("look", step=1), calls("look", step=2), Response("done"))
    store = RunStore("memory")
    with pytest.raises(ServerError):
        agent_for(world, Broken(world, answers)).run("Go.", run_id="r", journal=store)
    assert store.run("r").status == "failed"
    assert store.run("r").note.startswith("ServerError")
    result = agent_for(world, Plan(world, answers)).resume("r", journal=store)
    assert result.text == "done"
    assert world.requests == {0: 1, 1: 1, 2: 1}
    assert store.run("r").status == "finished"


def test_limits_count_what_was_spent_before() -> None:
    world, store = World(), RunStore("memory")
    answers = (calls("look", step=1), calls("look", step=2), calls("look", step=3))
    agent = agent_for(world, Plan(world, answers))
    with pytest.raises(AgentError, match="20 of 15"):
        agent.run("Go.", run_id="r", journal=store, max_tokens=15)
    assert world.requests.total() == 2
    with pytest.raises(AgentError, match="20 of 15"):
        agent_for(world, Plan(world, answers)).resume("r", journal=store)
    with pytest.raises(AgentError, match=r"0\.03 of 0\.025 USD"):
        agent.resume("r", journal=store, max_tokens=None, max_cost=0.025)
    assert world.requests.total() == 3


def test_limits_count_the_answers_of_a_request_that_failed() -> None:
    world, store = World(), RunStore("memory")

    class Typed(Plan):
        capabilities = frozenset({"messages", "tools", "json_schema"})

    wrong = agent_for(
        world, Typed(world, (Response("no number", Usage(6, 4)),)), tools=tools_of(world)[:1]
    )
    with pytest.raises(StructuredOutputError):
        wrong.run("Go.", run_id="r", journal=store, response_model=float, max_tokens=15)
    paid = 10 * world.requests.total()
    right = agent_for(world, Typed(world, (calls("look", step=1),)), tools=tools_of(world)[:1])
    with pytest.raises(AgentError, match=f"{paid + 10} of 15 tokens"):
        right.resume("r", journal=store, response_model=float)


def test_the_deadline_counts_the_time_of_work_and_not_the_time_between(folder: str) -> None:
    clock = HandClock()
    world, url = World(), f"sqlite:///{folder}/j.sqlite"

    @tool(effect="none")
    def look(x: int) -> str:
        """Take 40 s."""
        clock.pass_(40)
        return "seen"

    killer = Killer(at=9)
    answers = (calls("look", step=1), calls("look", step=2), Response("done"))

    def process(journal: RunStore) -> Any:
        return agent_for(world, Plan(world, answers), tools=[look], clock=clock, journal=journal)

    with MortalStore(url, killer, clock=clock) as store, pytest.raises(KilledError):
        process(store).run("Go.", run_id="r", deadline=100)
    clock.pass_(10_000)
    with RunStore(url, clock=clock) as again:
        assert process(again).resume("r").text == "done"
        with pytest.raises(DeadlineExceededError):
            process(again).resume("r", deadline=30)


def test_changed_tools_and_instructions_are_refused_with_both_versions() -> None:
    world, store = World(), RunStore("memory")
    answers = (calls("look", step=1), Response("done"))
    agent_for(world, Plan(world, answers)).run(
        "Go.", run_id="r", journal=store, tools=tools_of(world)[:2]
    )

    @tool(effect="none")
    def look(x: int, closely: bool = False) -> str:
        """Look."""
        return "seen"

    changed = agent_for(world, Plan(world, answers), tools=[look])
    with pytest.raises(RunChangedError, match=r"tool look was \w{12} and is \w{12}; tool send was"):
        changed.run("Go.", run_id="r", journal=store)
    assert changed.run("Go.", run_id="r", journal=store, allow_changes=True).text == "done"
    with pytest.raises(RunChangedError, match="another task"):
        changed.run("Go elsewhere.", run_id="r", journal=store, allow_changes=True)
    assert world.requests.total() == 2


def test_a_process_that_may_not_continue_a_run_leaves_it_as_it_was(folder: str) -> None:
    """In a deployment, a process with other tools must not take a run from those with its own."""
    url, world = f"sqlite:///{folder}/j.sqlite", World()
    answers = (calls("look", step=1), Response("done"))
    plan, tools = Plan(world, answers), tools_of(world)
    dying = MortalStore(url, Killer(at=8))
    with pytest.raises(KilledError):
        agent_for(world, plan, tools=tools[:1]).run("Go.", run_id="r", journal=dying)
    dying.close()
    with RunStore(url) as store:
        unchanged = agent_for(world, plan, tools=tools[:1], journal=store)
        changed = agent_for(world, plan, tools=tools[:2], journal=store)
        assert isinstance(changed.resume_all()["r"], RunChangedError)
        assert store.run("r").status == "abandoned"
        assert str(unchanged.resume_all()["r"]) == "done"
        with pytest.raises(RunChangedError):
            asyncio.run(unchanged.arun("Go elsewhere.", run_id="r"))
        assert store.run("r").status == "finished"


def test_credentials_in_options_are_not_recorded() -> None:
    store, world = RunStore("memory"), World()
    agent = agent_for(world, Plan(world, (Response("done"),)), journal=store, tools=[])
    agent.run("Go.", run_id="r", temperature=0.5, extra_headers={"authorization": "secret"})
    recorded = store.steps("r")[0].value
    assert recorded["options"]["temperature"] == 0.5
    assert "secret" not in str(recorded)


@pytest.mark.parametrize("run_id", ["a\ud800", "a\0", "", 7])
def test_an_id_that_no_journal_can_hold_is_refused(run_id: Any) -> None:
    with pytest.raises(ConfigurationError, match="run_id is"):
        agent_for(World(), journal="memory").run("Go.", run_id=run_id)


def test_a_run_under_way_is_not_run_by_another(folder: str) -> None:
    url = f"sqlite:///{folder}/j.sqlite"
    refused: list[Exception] = []

    @tool(effect="none")
    def look(x: int) -> str:
        """Look, while another agent tries the same run."""
        for journal in (url, RunStore(url)):
            with pytest.raises(RunConflictError, match="under way") as caught:
                agent_for(World()).resume("r", journal=journal, tools=[look])
            refused.append(caught.value)
        return "seen"

    world = World()
    plan = Plan(world, (calls("look", step=1), Response("done")))
    assert agent_for(world, plan, tools=[look]).run("Go.", run_id="r", journal=url).text == "done"
    assert len(refused) == 2


def test_a_cancelled_run_stops_at_its_next_step() -> None:
    world, store = World(), RunStore("memory")

    @tool(effect="none")
    def look(x: int) -> str:
        """Cancel the run."""
        store.cancel("r")
        return "seen"

    plan = Plan(world, (calls("look", step=1), Response("done")))
    agent = agent_for(world, plan, tools=[look], journal=store)
    for _ in range(2):
        with pytest.raises(JournalError, match="cancelled"):
            agent.run("Go.", run_id="r")
    assert world.requests.total() == 1
    assert store.run("r").status == "cancelled"


def test_all_abandoned_runs_of_the_agent_are_resumed_and_no_others(folder: str) -> None:
    url, world = f"sqlite:///{folder}/j.sqlite", World()
    answers = (calls("look", step=1), Response("done"))

    def process(journal: Any, **options: Any) -> Any:
        return agent_for(world, Plan(world, answers), journal=journal, **options)

    for name in ("a", "b"):
        dying = MortalStore(url, Killer(at=8))
        with pytest.raises(KilledError):
            process(dying).run("Go.", run_id=name)
        dying.close()
    process(url).run("Go.", run_id="c")
    with RunStore(url) as store:
        assert [each.status for each in store.runs()] == ["abandoned", "abandoned", "finished"]
        outcomes = process(store).resume_all()
        assert {name: str(outcome) for name, outcome in outcomes.items()} == {
            "a": "done",
            "b": "done",
        }
        assert asyncio.run(process(store).aresume_all()) == {}


def test_a_run_of_a_process_that_shuts_down_is_taken_over() -> None:
    world, store = World(), RunStore("memory")
    plan = Plan(world, (calls("look", step=1), Response("done")))

    @tool(effect="none")
    def look(x: int) -> str:
        """Look, while the process closes its manager."""
        managers.pop().close()
        return "seen"

    first = agent_for(world, plan, tools=[look], journal=store)
    managers: list[Any] = [first.llm_manager]
    with pytest.raises(ConfigurationError, match="closed"):
        first.run("Go.", run_id="r")
    second = agent_for(world, plan, tools=[look], journal=store)
    assert str(second.resume_all()["r"]) == "done"


def test_an_unknown_run_is_named() -> None:
    with pytest.raises(JournalError, match="no run 'r'"):
        agent_for(World()).resume("r", journal=RunStore("memory"))


def test_resume_without_an_id_is_still_the_life_cycle() -> None:
    agent = agent_for(World())
    agent.pause()
    agent.resume()
    assert agent.status == "running"
    with pytest.raises(AgentStateError):
        agent.resume()


def test_the_memory_gets_the_turn_of_a_run_once_and_its_history_is_recorded() -> None:
    from agentkit.agent.memory import Memory

    world, store, memory = World(), RunStore("memory"), Memory()
    memory.add(Message("user", "Hi"), Message("assistant", "Hello"))
    requests: list[Any] = []

    class Seen(Plan):
        def send(self, request: Any) -> Response[Any]:
            requests.append([each.text for each in request.messages])
            return Response("Fine.")

    agent = agent_for(world, Seen(world), memory=memory, journal=store)
    for _ in range(2):
        agent.run("Well?", run_id="r")
    assert [each.text for each in memory.messages] == ["Hi", "Hello", "Well?", "Fine."]
    result = agent_for(world, Seen(world)).resume("r", journal=store)
    assert [each.text for each in result.messages] == ["Hi", "Hello", "Well?", "Fine."]
    assert requests == [["Do as planned.", "Hi", "Hello", "Well?"]]


def test_arguments_that_json_cannot_hold_fail_before_the_tool_is_called() -> None:
    world, store = World(), RunStore("memory")
    bad = calls("send", step=1)
    bad.tool_calls[0].arguments["x"] = {1, 2}  # type: ignore[index]
    with pytest.raises(LLMError, match="cannot be recorded"):
        agent_for(world, Plan(world, (bad,))).run("Go.", run_id="r", journal=store)
    assert world.effects.total() == 0


def test_a_typed_answer_is_validated_again_from_the_record() -> None:
    world, store = World(), RunStore("memory")

    class Typed(Plan):
        capabilities = frozenset({"messages", "tools", "json_schema"})

    agent = agent_for(world, Typed(world, (Response("21.5"),)), journal=store, tools=[])
    assert agent.run("Go.", response_model=float, run_id="r").parsed == 21.5
    assert agent.resume("r", response_model=float).parsed == 21.5
    with pytest.raises(RunChangedError, match="type of the answer"):
        agent.resume("r", response_model=int)
    assert world.requests.total() == 1
