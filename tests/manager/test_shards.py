"""Shards of a large batch: split by bytes, answered one by one, joined in order."""

from __future__ import annotations

import asyncio
import fcntl
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit import Budget, ConfigurationError, LLMManager, complete_file, join_shards
from agentkit.manager.batch_file import Progress
from agentkit.manager.shards import Plan, complete_shard
from agentkit.testing import ScriptedModel, faults


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def write(path: Path, prompts: list[Any]) -> Path:
    items = (each if isinstance(each, dict) else {"prompt": each} for each in prompts)
    path.write_text("".join(f"{json.dumps(each)}\n" for each in items))
    return path


def answer_all(
    plan: Plan, model: ScriptedModel | None = None, **options: Any
) -> list[Progress | None]:
    model = model or ScriptedModel(then=lambda prompt, options: f"re: {prompt}")

    async def run() -> list[Progress | None]:
        return [
            await complete_shard(llm, plan, shard, max_concurrency=1, patience=0, **options)
            for shard in plan.shards
        ]

    with LLMManager(enable_caching=False, breaker=False, max_retries=1) as llm:
        llm.register_model("m", model.as_async())
        return asyncio.run(run())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "in.jsonl", [f"question {number}" for number in range(10)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


LINES = st.lists(
    st.sampled_from([
        b"", b"   ", b"no json", b'{"prompt": "one"}', b'{"id": "a", "prompt": "two"}',
        b'{"id": "a", "prompt": "three"}', b'{"id": 1, "prompt": "' + b"long " * 30 + b'"}',
    ]),
    max_size=12,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(LINES, st.integers(1, 9), st.booleans())
def test_the_joined_shards_are_the_results_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], shards: int, ended: bool
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    source = folder / "in"
    source.write_bytes(b"\n".join(lines) + (b"\n" if ended and lines else b""))
    plan = Plan.open(source, folder / "out", shards)
    assert len(plan.shards) <= shards
    assert sum(shard.size for shard in plan.shards) == source.stat().st_size
    answer_all(plan)
    joined = join_shards(folder / "out", folder / "joined")
    with LLMManager(enable_caching=False, breaker=False, max_retries=1) as llm:
        llm.register_model("m", ScriptedModel(then=lambda prompt, _: f"re: {prompt}").as_async())
        asyncio.run(complete_file(llm, source, folder / "one"))
    results = sorted(read(folder / "one"), key=lambda each: each["index"])
    assert read(folder / "joined") == results
    assert joined == len(results)


def test_shards_are_about_equal(source: Path, folder: Path) -> None:
    plan = Plan.open(source, folder, 5)
    assert [shard.items for shard in plan.shards] == [2] * 5
    assert Plan.open(source, folder, None) == plan
    assert Plan.open(source, folder, 5) == plan


def test_another_number_of_shards_is_refused(source: Path, folder: Path) -> None:
    Plan.open(source, folder, 5)
    with pytest.raises(ConfigurationError, match="was begun with 5 shards, not 6"):
        Plan.open(source, folder, 6)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [("question 3", "question X", "from line 3 on"), ("9", "9\\n", "from line 9 on")],
)
def test_a_changed_input_is_refused(
    source: Path, folder: Path, old: str, new: str, where: str
) -> None:
    Plan.open(source, folder, 5)
    source.write_text(source.read_text().replace(old, new))
    with pytest.raises(ConfigurationError, match=f"has changed since .*{where}"):
        Plan.open(source, folder, None)


def test_a_longer_input_is_refused(source: Path, folder: Path) -> None:
    Plan.open(source, folder, 5)
    with source.open("a") as file:
        file.write('{"prompt": "one more"}\n')
    with pytest.raises(ConfigurationError, match="at its end"):
        Plan.open(source, folder, None)


def test_a_folder_of_something_else_is_refused(source: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "mine.jsonl").write_text("{}\n")
    with pytest.raises(ConfigurationError, match=r"without a manifest\.json"):
        Plan.open(source, folder, 5)
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="not a manifest"):
        Plan.open(source, folder, 5)


def test_a_shard_in_other_hands_is_left_alone(source: Path, folder: Path) -> None:
    plan = Plan.open(source, folder, 2)
    model = ScriptedModel(then="fine")
    with plan.part(plan.shards[0]).open("ab") as other:
        fcntl.flock(other.fileno(), fcntl.LOCK_EX)
        assert answer_all(plan, model) == [None, Progress(total=5, answered=5)]
    assert len(model.calls) == 5
    with pytest.raises(ConfigurationError, match="1 of 2 shards are not finished"):
        join_shards(folder, folder / "joined")
    assert answer_all(plan, model) == [Progress(5, answered=5), Progress(5, kept=5)]


def test_failed_items_of_a_finished_shard_are_sent_again(source: Path, folder: Path) -> None:
    plan = Plan.open(source, folder, 2)
    model = ScriptedModel("fine", faults.Status(400), then="fine")
    answer_all(plan, model)
    assert [plan.state(shard) for shard in plan.shards] == [
        (Progress(total=5, kept=4), False),
        (Progress(total=5, kept=5), True),
    ]
    assert join_shards(folder, folder / "errors") == 10
    answer_all(plan, model)
    assert all(plan.state(shard)[1] for shard in plan.shards)
    assert len(model.calls) == 11
    join_shards(folder, folder / "joined")
    results = read(folder / "joined")
    assert [each["index"] for each in results] == list(range(10))
    assert not any("error" in each for each in results)


def test_a_run_that_is_cut_off_keeps_its_part(source: Path, folder: Path) -> None:
    plan = Plan.open(source, folder, 1)
    [shard] = plan.shards
    answer_all(plan)
    lines = plan.output(shard).read_bytes().splitlines(keepends=True)
    plan.output(shard).unlink()
    plan.part(shard).write_bytes(b"".join(lines[:4]) + lines[4][:20])
    assert plan.state(shard) == (Progress(total=10, kept=4), False)
    model = ScriptedModel(then=lambda prompt, options: f"re: {prompt}")
    assert answer_all(plan, model) == [Progress(total=10, kept=4, answered=6)]
    assert len(model.calls) == 6
    assert sorted(plan.output(shard).read_bytes().splitlines(keepends=True)) == sorted(lines)
    assert not plan.part(shard).exists()


def test_a_shard_that_another_run_is_finishing_is_left_to_it(source: Path, folder: Path) -> None:
    """It has its name already, and the other run still has its lock."""
    plan = Plan.open(source, folder, 1)
    answer_all(plan, ScriptedModel(faults.Status(400), then="fine"))
    [shard] = plan.shards
    with plan.output(shard).open("rb") as other:
        fcntl.flock(other.fileno(), fcntl.LOCK_EX)
        assert answer_all(plan) == [None]
    assert plan.output(shard).exists()
    assert not plan.part(shard).exists()
    assert answer_all(plan) == [Progress(total=10, kept=9, answered=1)]


def test_an_empty_part_beside_a_finished_shard_repeats_no_request(
    source: Path, folder: Path
) -> None:
    """Another run finished the shard while this one opened it."""
    plan = Plan.open(source, folder, 1)
    answer_all(plan, ScriptedModel(faults.Status(400), then="fine"))
    [shard] = plan.shards
    plan.part(shard).touch()
    assert answer_all(plan) == [Progress(total=10, kept=9, answered=1)]
    assert not plan.part(shard).exists()
    assert plan.state(shard) == (Progress(total=10, kept=10), True)


def test_a_finished_shard_that_lost_lines_is_completed(source: Path, folder: Path) -> None:
    plan = Plan.open(source, folder, 1)
    answer_all(plan)
    [shard] = plan.shards
    lines = plan.output(shard).read_bytes().splitlines(keepends=True)
    plan.output(shard).write_bytes(b"".join(lines[:7]))
    assert plan.state(shard) == (Progress(total=10, kept=7), False)
    assert answer_all(plan) == [Progress(total=10, kept=7, answered=3)]


@pytest.mark.threads
def test_runs_that_begin_at_once_have_one_plan(source: Path, folder: Path) -> None:
    barrier = threading.Barrier(4, timeout=20)

    def open_plan(shards: int) -> Plan | None:
        barrier.wait()
        with suppress(ConfigurationError):  # another number of shards won
            return Plan.open(source, folder, shards)
        return None

    with ThreadPoolExecutor(4) as threads:
        plans = list(threads.map(open_plan, (5, 5, 2, 2)))
    found = Plan.open(source, folder, None)
    assert [plan for plan in plans if plan is not None] == [found, found]
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]


MANIFESTS: list[dict[str, Any]] = [
    {},
    {"shards": []},
    {"asked": 1, "shards": [{}]},
    {"asked": 1, "shards": 3},
    {"asked": 1, "shards": [dict.fromkeys(("number", "offset", "size", "line", "items"), "x")]},
]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"[" * 100_000,
        b"[]",
        *(json.dumps({"version": 1} | each).encode() for each in MANIFESTS),
    ],
)
def test_a_manifest_of_something_else_is_refused(
    source: Path, folder: Path, content: bytes
) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match="not a manifest"):
        Plan.open(source, folder, None)
    with pytest.raises(ConfigurationError, match="not a manifest"):
        join_shards(folder, folder / "joined")


def test_join_writes_over_nothing_and_counts_the_results(source: Path, folder: Path) -> None:
    plan = Plan.open(source, folder, 2)
    answer_all(plan, budget=Budget(tokens=10_000))
    (folder / "mine").write_text("mine")
    with pytest.raises(ConfigurationError, match="exists"):
        join_shards(folder, folder / "mine")
    output = plan.output(plan.shards[1])
    output.write_bytes(b"".join(output.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(ConfigurationError, match="has 4 results for 5 items"):
        join_shards(folder, folder / "joined")
    assert not (folder / "joined").exists()
