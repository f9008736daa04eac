"""A worker and the output of a shard that another process has locked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentkit import LLMManager
from agentkit.manager.batch_file import Progress
from agentkit.manager.batch_jobs import Job, Outcome, Settings, answer_job
from agentkit.manager.batch_output import open_output
from agentkit.manager.shards import Plan
from agentkit.testing import ScriptedModel


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    return Plan.open(source, tmp_path / "out", 1)


async def answer_while_locked(manager: LLMManager, plan: Plan, lock_wait: float) -> Outcome:
    settings = Settings.of(lambda: manager, plan, workers=1, max_concurrency=1, patience=0)
    job = Job(plan.shards[0], Progress(2), lock_wait=lock_wait)
    with open_output(plan.part(plan.shards[0])):
        answering: asyncio.Task[Outcome] = asyncio.create_task(
            answer_job(manager, settings, job, lambda report: None)
        )
        await asyncio.sleep(0)  # it has tried once
    return await answering


@pytest.mark.parametrize(("lock_wait", "outcome"), [(0.0, None), (60.0, Progress(2, answered=2))])
def test_a_worker_waits_for_the_lock_of_one_that_was_killed(
    plan: Plan, lock_wait: float, outcome: Outcome
) -> None:
    with LLMManager(enable_caching=False) as manager:
        manager.register_model("m", ScriptedModel(then=lambda prompt, _: prompt).as_async())
        assert asyncio.run(answer_while_locked(manager, plan, lock_wait)) == outcome
