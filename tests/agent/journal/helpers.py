"""What tests of recorded runs share: a run with every kind of tool, and a process that dies."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agentkit.agent.agent import Agent
from agentkit.agent.runs.store import RunJournal, RunStatus, RunStore
from agentkit.errors import RunConflictError
from agentkit.manager.manager import LLMManager
from agentkit.output.tools import ToolContext, tool
from agentkit.types import Request, Response, ToolCall, Usage
from agentkit.types.ledger import Ledger


class KilledError(BaseException):
    """The process ends here."""


class Killer:
    """Ends the process at the chosen one of the points that it passes."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.passed = 0
        self.dead = False

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.at or self.dead:
            self.dead = True
            raise KilledError


class MortalStore(RunStore):
    """A store of a process that may die between any two statements: it then releases nothing."""

    def __init__(self, url: str, killer: Killer, **clocks: Any) -> None:
        super().__init__(url, **clocks)
        self.killer = killer

    def claim(self, run_id: str, agent: str = "", decided: Iterable[str] = ()) -> Any:
        self.killer.point()
        claimed = super().claim(run_id, agent, decided)
        return MortalJournal(claimed, self.killer)


class MortalJournal:
    def __init__(self, journal: RunJournal, killer: Killer) -> None:
        self.journal = journal
        self.killer = killer
        self.seconds = journal.seconds
        self.concurrent = True

    def has(self, name: str) -> bool:
        return self.journal.has(name)

    def step(self, name: str, do: Callable[[], Any]) -> Any:
        def between() -> Any:
            self.killer.point()
            value = do()
            self.killer.point()
            return value

        self.killer.point()
        value = self.journal.step(name, between)
        self.killer.point()
        return value

    async def astep(self, name: str, do: Callable[[], Awaitable[Any]]) -> Any:
        async def between() -> Any:
            self.killer.point()
            value = await do()
            self.killer.point()
            return value

        self.killer.point()
        value = await self.journal.astep(name, between)
        self.killer.point()
        return value

    def spend(self, step: int, ledger: Ledger) -> None:
        if not self.killer.dead:
            self.journal.spend(step, ledger)

    def spent(self) -> list[Ledger]:
        return self.journal.spent()

    def release(self, status: RunStatus, note: str = "", pending: Iterable[str] = ()) -> None:
        if not self.killer.dead:
            self.journal.release(status, note, pending)

    def withdraw(self) -> None:
        if not self.killer.dead:
            self.journal.withdraw()


class DictJournal:
    """A journal as workflow engines have it, for one run."""

    def __init__(self) -> None:
        self.steps: dict[str, Any] = {}

    def step(self, name: str, do: Callable[[], Any]) -> Any:
        if name not in self.steps:
            self.steps[name] = do()
        return self.steps[name]

    async def astep(self, name: str, do: Callable[[], Awaitable[Any]]) -> Any:
        if name not in self.steps:
            self.steps[name] = await do()
        return self.steps[name]


class ConcurrentJournal(DictJournal):
    """It finds steps by their names, in any order."""

    concurrent = True


class World:
    """What survives the process: which effects were carried out, and which requests were paid."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        self.requests: Counter[int] = Counter()

    def did(self, what: str, context: ToolContext) -> None:
        self.effects[f"{what} {context.effect_key}"] += 1

    def most(self, what: str) -> int:
        return max((n for key, n in self.effects.items() if key.startswith(what)), default=0)


def calls(*names: str, step: int) -> Response[Any]:
    """A response that calls tools; 10 tokens."""
    return Response(
        "",
        Usage(6, 4),
        tool_calls=tuple(ToolCall(f"{name}-{step}", name, {"x": step}) for name in names),
    )


ANSWERS = (
    calls("look", step=1),
    calls("send", "look", step=2),
    calls("put", "guess", step=3),
    calls("pay", step=4),
    Response("done", Usage(6, 4)),
)


class Plan:
    """A provider that answers by the number of tool results in the conversation."""

    capabilities = frozenset({"messages", "tools"})

    def __init__(self, world: World, answers: tuple[Response[Any], ...] = ANSWERS) -> None:
        self.world = world
        self.answers = answers

    def send(self, request: Request) -> Response[Any]:
        step = sum(message.role == "assistant" for message in request.messages)
        self.world.requests[step] += 1
        return self.answers[step]


def tools_of(world: World, **resolve: Any) -> list[Any]:
    """One tool of each kind; `resolve` has the resolver of ``send``, if any."""

    @tool(effect="none")
    def look(x: int, context: ToolContext) -> str:
        """Look."""
        world.did("look", context)
        return f"saw {x}"

    @tool(effect="once", **resolve)
    def send(x: int, context: ToolContext) -> str:
        """Send."""
        world.did("send", context)
        return f"sent {x}"

    @tool(effect="idempotent")
    def put(x: int, context: ToolContext) -> str:
        """Put."""
        world.did("put", context)
        return f"put {x}"

    def guess(x: int, context: ToolContext) -> str:
        """A tool of unknown effect."""
        world.did("guess", context)
        return f"guessed {x}"

    @tool(effect="once", approve=True)
    def pay(x: int, context: ToolContext) -> str:
        """Pay."""
        world.did("pay", context)
        return f"paid {x}"

    return [look, send, put, guess, pay]


def agent_for(world: World, plan: Any = None, **options: Any) -> Agent:
    """A new process: nothing but the world and the journal is known to it."""
    llm = LLMManager(enable_caching=False, max_retries=1)
    llm.register_model("m", plan or Plan(world), {"cost_per_1k_tokens": 1.0})
    options.setdefault("tools", tools_of(world))
    return Agent(llm, instructions="Do as planned.", **options)


def race(url: str, work: Callable[[RunStore], None], stores: int = 4) -> list[Exception | None]:
    """What `work` raised in each of several stores of one journal, all at once."""
    barrier = threading.Barrier(stores, timeout=20)

    def one(_: int) -> Exception | None:
        with RunStore(url) as store:
            store.runs()
            barrier.wait()
            try:
                work(store)
            except Exception as error:
                return error
            finally:
                barrier.wait()
        return None

    with ThreadPoolExecutor(stores) as pool:
        return list(pool.map(one, range(stores)))


def no_two_claims(url: str) -> None:
    """Of several claimants, one gets a run: a new one, a failed one, and one that waits."""

    def claim(store: RunStore) -> None:
        store.claim("r")

    statuses: tuple[RunStatus | None, ...] = (None, "failed", "waiting", "finished")
    for status in statuses:
        if status is not None:
            with RunStore(url) as store:
                store.claim("r").release(status)
        errors = race(url, claim)
        refused = [each for each in errors if each is not None]
        assert {type(each) for each in refused} == {RunConflictError}
        assert len(refused) == 3, status


def no_lost_update(url: str) -> None:
    """What several processes add to one memory is all there."""

    def count(store: RunStore) -> None:
        for _ in range(5):
            store.update("counter", lambda number: (number or 0) + 1)

    assert race(url, count) == [None] * 4
    with RunStore(url) as store:
        assert store.load("counter") == 20
