"""Batches on a Ray cluster of this machine: killed actors, budgets, fleets, datasets.

Run by `.ci/ray`, in an environment that has Ray.
"""

from __future__ import annotations

import functools
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentkit import (
    Budget,
    BudgetExceededError,
    ConfigurationError,
    LLMError,
    LLMManager,
    complete_shards,
)
from agentkit.cli.app import app
from agentkit.integrations.ray import Asker, map_prompts
from agentkit.manager.batch_run import Progress
from agentkit.testing import WireServer
from tests.manager import batch_models
from tests.manager.batches import require_each_once
from tests.state.servers import any_server

ray = pytest.importorskip("ray", reason="Ray is not installed; .ci/ray runs this in its own place")

pytestmark = pytest.mark.processes

CONCURRENCY = 4
KEY = "sk-1234567890abcdef"


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()


def test_a_killed_actor_loses_no_line_and_repeats_only_its_calls(
    source: Path, folder: Path, log: Path, tmp_path: Path
) -> None:
    make = functools.partial(batch_models.killed, str(log), str(tmp_path / "gate"))
    seen: list[Progress] = []
    done = map_prompts(
        make, source, folder, shards=2, max_concurrency=CONCURRENCY, on_progress=seen.append
    )
    assert done == seen[-1] == Progress(total=48, answered=48)
    require_each_once(folder)
    assert len(log.read_text().splitlines()) == 48 + CONCURRENCY


def test_a_run_on_ray_is_continued_without_it(source: Path, folder: Path, log: Path) -> None:
    make = functools.partial(batch_models.fair, str(log))
    with pytest.raises(BudgetExceededError):
        map_prompts(make, source, folder, shards=6, budget=Budget(tokens=1000))
    assert len(log.read_text().splitlines()) == 9
    done = complete_shards(make, source, folder)
    assert done == Progress(total=48, kept=9, answered=39)
    assert max(Counter(log.read_text().splitlines()).values()) == 1
    require_each_once(folder)


@pytest.mark.wire
def test_the_command_answers_on_ray(source: Path, folder: Path) -> None:
    with WireServer(reply="fine") as server:
        model = ["-m", "compatible:m", "--base-url", server.openai_url]
        command = ["batch", str(source), str(folder), "--shards", "3", "--ray", "auto", *model]
        done = CliRunner().invoke(app, command)
        assert done.stderr == "48 items: 48 answered, 0 answered before, 0 failed\n"
        assert done.exit_code == 0
        assert len(server.requests) == 48
    require_each_once(folder)


def test_what_ends_an_actor_ends_the_run(source: Path, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such model"):
        map_prompts(batch_models.broken, source, folder)
    with pytest.raises(ConfigurationError, match="nowhere"):
        map_prompts("nowhere.yaml", source, folder)
    with pytest.raises(LLMError, match="3 workers died over shard 0, the last one with ActorDied"):
        map_prompts(batch_models.deadly, source, folder)


def test_no_secret_of_the_environment_goes_through_ray(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigurationError, match="make has the value of OPENAI_API_KEY") as refused:
        map_prompts(functools.partial(batch_models.fair, KEY), source, folder)
    assert KEY not in str(refused.value)
    environment = {"env_vars": {"OPENAI_API_KEY": KEY}}
    with pytest.raises(ConfigurationError, match="make has the value of OPENAI_API_KEY"):
        map_prompts(batch_models.broken, source, folder, actor_options={"runtime_env": environment})


def shared(url: str, log: str) -> LLMManager:
    """Its processes are a fleet."""

    async def model(prompt: str, options: dict[str, Any]) -> str:
        batch_models.note(Path(log), f"{os.getpid()}")
        return "fine"

    llm = LLMManager(fleet=url, cache="memory")
    llm.register_model("m", model, {"version": "1"})
    return llm


def test_actors_share_the_fleet_of_their_managers(source: Path, folder: Path, log: Path) -> None:
    source.write_text('{"prompt": "the same"}\n' * 48)
    with any_server() as server:
        make = functools.partial(shared, server.url, str(log))
        done = map_prompts(make, source, folder, shards=4, workers=2, max_concurrency=CONCURRENCY)
    assert done.answered == 48
    assert len(log.read_text().splitlines()) == 1


def test_a_dataset_is_answered_by_a_pool_of_actors(log: Path) -> None:
    data = pytest.importorskip("ray.data", reason="the extra ray-data is not installed")
    data.DataContext.get_current().enable_progress_bars = False
    rows = [{"id": number, "prompt": f"question {number}"} for number in range(40)]
    answered = data.from_items(rows, override_num_blocks=4).map_batches(
        Asker,
        fn_constructor_kwargs={"make": functools.partial(batch_models.fair, str(log))},
        compute=data.ActorPoolStrategy(size=1),
        batch_size=8,
    )
    found = sorted(answered.take_all(), key=lambda row: row["id"])
    assert [row["id"] for row in found] == list(range(40))
    assert {row["answer"] for row in found} == {"fine"}
    assert {row["answer_error"] for row in found} == {""}
    assert {row["answer_tokens"] for row in found} == {100}
    assert math.fsum(row["answer_cost"] for row in found) == pytest.approx(4.0)
    assert len(log.read_text().splitlines()) == 40
