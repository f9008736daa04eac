"""A budget that the managers and processes of a fleet share."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentkit import Budget, BudgetExceededError, LLMManager
from agentkit.testing import ScriptedModel
from agentkit.types import Response, Usage
from tests.helpers import until
from tests.state.servers import Server

pytestmark = pytest.mark.usefixtures("quick_heartbeat")

SMALL: Response[Any] = Response("x", Usage(5, 5))


def manager(server: Server, **options: Any) -> LLMManager:
    llm = LLMManager(fleet=server.url, enable_caching=False, max_retries=1, **options)
    llm.register_model("m", ScriptedModel(then=SMALL), {"cost_per_1k_tokens": 1.0})
    until(lambda: llm.get_status()["fleet"]["state"] == "up")
    return llm


def team(**options: Any) -> Budget:
    return Budget(**{"tokens": 100, "per": "month", "scope": "team-a", **options})


def test_calls_of_all_managers_count_with_their_real_usage(server: Server) -> None:
    budgets = [team(), team()]
    one, other = (manager(server, budget=each) for each in budgets)
    for done in (20, 40, 60, 80):
        one.generate("hi", max_tokens=15)
        asyncio.run(other.agenerate("hi", max_tokens=15))
        until(lambda done=done: [each.spent_tokens for each in budgets] == [done] * 2)  # type: ignore[misc]
    with pytest.raises(BudgetExceededError, match="20 of 100 are left until"):
        one.generate("hi", max_tokens=50)
    other.generate("hi", max_tokens=5)
    with pytest.raises(BudgetExceededError):
        list(other.stream("hi", max_tokens=50))
    one.close()
    other.close()
    with manager(server) as third:
        with pytest.raises(BudgetExceededError):
            third.generate("hi", max_tokens=50, budget=team())
        third.generate("hi", max_tokens=50, budget=team(scope="team-b"))


def test_a_manager_that_is_dropped_gives_back_what_it_reserved_ahead(server: Server) -> None:
    much: dict[str, Any] = {"tokens": 100_000, "scope": "team-c"}
    dropped = manager(server, budget=team(**much))
    for _ in range(20):
        dropped.generate("hi", max_tokens=5)
    assert dropped.get_status()["fleet"]["questions"] < 20
    del dropped
    gc.collect()
    budget = team(**much)
    with manager(server, budget=budget) as llm:
        llm.generate("hi", max_tokens=5)
        until(lambda: budget.spent_tokens == 210)


def test_money_counts_in_the_store_to_a_billionth(server: Server) -> None:
    with manager(server, budget=team(tokens=None, usd=1.0)) as llm:
        llm.generate("hi", max_tokens=1)
        with pytest.raises(BudgetExceededError, match=r"0\.9900 of 1\.0000"):
            llm.generate("hi", max_tokens=1000)


def test_no_call_fails_or_waits_long_because_the_store_is_lost(server: Server) -> None:
    budget = team()
    with manager(server, budget=budget) as llm:
        llm.generate("hi", max_tokens=50)
        server.pause()
        llm.generate("hi", max_tokens=50)
        llm.generate("hi", max_tokens=50)
        assert llm.get_status()["fleet"]["state"] == "down"
        server.resume()
        until(lambda: llm.get_status()["fleet"]["state"] == "up")
        with manager(server) as other:
            mine = team()
            other.generate("hi", max_tokens=5, budget=mine)
            until(lambda: mine.spent_tokens == 40)


def test_a_store_that_was_flushed_learns_again_what_was_spent(server: Server) -> None:
    with manager(server, budget=team()) as llm:
        for _ in range(8):
            llm.generate("hi", max_tokens=5)
        server.run("FLUSHALL")
        with pytest.raises(BudgetExceededError):
            llm.generate("hi", max_tokens=50)


WORKER = """
import asyncio, sys
from agentkit import Budget, BudgetExceededError, LLMManager, Response, Usage

async def model(prompt, options):
    print("sent", flush=True)
    await asyncio.sleep(float(sys.argv[2]))
    return Response("x", Usage(5, 5))

async def main():
    budget = Budget(tokens=500, scope="workers", per="month")
    llm = LLMManager(fleet=sys.argv[1], enable_caching=False, max_retries=1, budget=budget)
    llm.register_model("m", model)
    done = await asyncio.gather(
        *(llm.agenerate(f"hi {i}", max_tokens=20) for i in range(int(sys.argv[3]))),
        return_exceptions=True
    )
    assert all(isinstance(each, str | BudgetExceededError) for each in done), done
    llm.close()

asyncio.run(main())
"""


def start(server: Server, seconds: float, calls: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, server.url, str(seconds), str(calls)],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.processes
def test_processes_together_stay_within_it_and_a_killed_one_leaves_what_it_reserved(
    server: Server,
) -> None:
    killed = start(server, 60.0, 4)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "sent\n"
    killed.kill()
    killed.communicate()
    workers = [start(server, 0.0, 20) for _ in range(2)]
    sent = sum(each.communicate()[0].count("sent") for each in workers)
    assert [each.returncode for each in workers] == [0] * 2
    assert 10 <= sent <= 47, (
        "each used 10 of 500 tokens, and the killed one had reserved 25 or more"
    )


def test_a_file_sets_the_budget(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "llm.yaml"
    path.write_text(
        f"fleet: {server.url}\nbudget: {{tokens: 10, per: day, scope: team-a}}\nproviders:\n"
        "  openai:\n    api_keys: k\n    models: m\n",
        encoding="utf-8",
    )
    with LLMManager.from_config(path) as llm:
        llm.register_model("mine", ScriptedModel(then=SMALL))
        with pytest.raises(BudgetExceededError, match="10 of 10 are left until"):
            llm.generate("hi", model="mine", max_tokens=50)
