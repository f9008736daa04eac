"""pydantic-ai in workflows of DBOS over SQLite: model requests and tools are its steps."""

# mypy: ignore-errors
# ruff: noqa: ARG001 - a tool has the parameters that the model sees, used or not

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dbos import DBOS, SetWorkflowID
from openai import AsyncOpenAI
from pydantic_ai import Agent, UsageLimits
from pydantic_ai.durable_exec.dbos import DBOSAgent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from benchmarks.durability.plan import Counter


def work(runs: Sequence[str], url: str, port: int, folder: Path, journal: str) -> None:
    """Begin or continue `runs`, all at once, and write down how each ended.

    All processes of a batch are one executor, whose pending workflows the launch recovers.
    """
    counter = Counter(port)
    DBOS(
        config={
            "name": "durability",
            "system_database_url": f"sqlite:///{folder}/dbos-{runs[0]}.sqlite",
            "executor_id": runs[0],
            "application_version": "1",
            "run_admin_server": False,
            "log_level": "CRITICAL",
        }
    )

    @DBOS.step()
    def look(run: str, step: int) -> str:
        """Look."""
        return f"seen in step {step}"

    @DBOS.step()
    def put(run: str, step: int) -> str:
        """Put."""
        counter.did(run, "put", step)
        return "put"

    @DBOS.step()
    def charge(run: str, step: int) -> str:
        """Charge."""
        counter.did(run, "charge", step)
        return "charged"

    @DBOS.step()
    def mail(run: str, step: int) -> str:
        """Send a mail."""
        counter.did(run, "mail", step)
        return "sent"

    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="any")
    model = OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client))
    plain = Agent(model, name="worker", tools=[look, put, charge, mail])
    agent = DBOSAgent(plain, parallel_execution_mode="sequential")

    @DBOS.workflow()
    async def follow(run: str) -> str:
        result = await agent.run(f"Run {run}.", usage_limits=UsageLimits(request_limit=100))
        return result.output

    DBOS.launch()
    handles = []
    for run in runs:
        with SetWorkflowID(run):
            handles.append(DBOS.start_workflow(follow, run))
    for run, handle in zip(runs, handles, strict=True):
        ended = {"run": run, "text": handle.get_result(), "in_doubt": []}
        with (folder / "ended.jsonl").open("a") as file:
            file.write(json.dumps(ended) + "\n")
