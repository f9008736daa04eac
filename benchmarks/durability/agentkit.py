"""agentkit: the runs of one process, recorded in SQLite or Postgres."""

# ruff: noqa: ARG001 - a tool has the parameters that the model sees, used or not

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic  # noqa: F401 - loaded once, before the processes are forked
import google.genai  # noqa: F401
import openai  # noqa: F401

from agentkit import Agent, LLMManager, RunStore, ToolCall, provider_for, tool
from benchmarks.durability.plan import Counter

MODELS = ("openai", "anthropic", "google")


def work(runs: Sequence[str], url: str, port: int, folder: Path, journal: str) -> None:
    """Begin or continue `runs`, all at once, and write down how each ended."""
    counter = Counter(port)
    agent = Agent(manager(url), instructions="Do as planned.", tools=tools(counter))
    store = RunStore(journal or f"sqlite:///{folder}/runs.sqlite")

    def options(run: str) -> dict[str, Any]:
        first = random.randrange(3) if random.random() < 1 / 3 else 0
        return {
            "run_id": run,
            "journal": store,
            "model": [*MODELS[first:], *MODELS[:first]],
            "max_steps": 30,
        }

    def record(run: str, result: Any) -> None:
        doubts = [[each.call.name, each.call.arguments["step"]] for each in result.in_doubt]
        ended = {"run": run, "text": result.text, "status": result.status, "in_doubt": doubts}
        with (folder / "ended.jsonl").open("a") as file:
            file.write(json.dumps(ended) + "\n")

    async def arun(run: str) -> None:
        record(run, await agent.arun(f"Run {run}.", **options(run)))

    async def arun_all() -> None:
        await asyncio.gather(*map(arun, runs))

    if random.random() < 0.5:
        asyncio.run(arun_all())
        return
    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(lambda run: record(run, agent.run(f"Run {run}.", **options(run))), runs))


def manager(url: str) -> LLMManager:
    """Three models of three vendors, each behind the protocol of its own."""
    llm = LLMManager(enable_caching=False)
    bases = {"openai": f"{url}/v1", "anthropic": url, "google": url}
    for name in MODELS:
        llm.register_model(
            name, provider_for(f"{name}:model-{name}", base_url=bases[name], api_key="any")
        )
    llm.set_fallback_chain(MODELS)
    return llm


def tools(counter: Counter) -> list[Any]:
    """A tool that reads, an idempotent one, and two that must act once."""

    @tool(effect="none")
    def look(run: str, step: int) -> str:
        """Look."""
        return f"seen in step {step}"

    @tool(effect="idempotent")
    def put(run: str, step: int) -> str:
        """Put."""
        counter.did(run, "put", step)
        return "put"

    def charged(call: ToolCall) -> str:
        arguments = call.arguments
        return (
            "charged" if counter.has(arguments["run"], "charge", arguments["step"]) else "not done"
        )

    @tool(effect="once", resolve=charged)
    def charge(run: str, step: int) -> str:
        """Charge."""
        counter.did(run, "charge", step)
        return "charged"

    @tool(effect="once")
    def mail(run: str, step: int) -> str:
        """Send a mail; whether it arrived cannot be found out."""
        counter.did(run, "mail", step)
        return "sent"

    return [look, put, charge, mail]


def recorded(folder: Path, journal: str) -> dict[str, int]:
    """The number of each recorded answer, by run and step."""
    found: dict[str, int] = {}
    with RunStore(journal or f"sqlite:///{folder}/runs.sqlite") as store:
        for info in store.runs():
            for each in store.steps(info.id):
                if each.name.endswith(".model"):
                    step = each.name.removesuffix(".model")
                    found[f"{info.id} {step}"] = int(each.value["text"].split()[1])
    return found
