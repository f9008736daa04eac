"""Worker processes of a large batch: killed, interrupted, out of budget."""

from __future__ import annotations

import functools
import json
import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentkit import (
    Budget,
    BudgetExceededError,
    ConfigurationError,
    LLMError,
    complete_shards,
)
from agentkit.cli.app import app
from agentkit.manager.batch_file import Progress
from agentkit.testing import WireServer
from tests.manager import batch_models
from tests.manager.batches import require_each_once

pytestmark = pytest.mark.processes

CONCURRENCY = 4


def test_a_killed_worker_loses_no_line_and_repeats_only_its_calls(
    source: Path, folder: Path, log: Path, tmp_path: Path
) -> None:
    make = functools.partial(batch_models.killed, str(log), str(tmp_path / "gate"))
    done = complete_shards(make, source, folder, shards=2, workers=2, max_concurrency=CONCURRENCY)
    assert done == Progress(total=48, answered=48)
    require_each_once(folder)
    assert len(log.read_text().splitlines()) == 48 + CONCURRENCY


RUN = """
import functools, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from agentkit import complete_shards
from tests.manager import batch_models
source, folder, *arguments = sys.argv[1:]
make = functools.partial(batch_models.held, *arguments)
complete_shards(make, source, folder, shards=2, workers=2, max_concurrency=4)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_worker_and_is_continued(
    source: Path, folder: Path, log: Path, sent: signal.Signals
) -> None:
    command = [sys.executable, "-c", RUN, *map(str, (source, folder, log))]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdout=pipe, stderr=null, text=True) as first:
        assert first.stdout is not None
        for _ in range(2 * CONCURRENCY):
            assert first.stdout.readline()
        first.send_signal(sent)
        assert first.stdout.read() == "", "to its end: no worker has the pipe any more"
    done = complete_shards(
        functools.partial(batch_models.fair, str(log)), source, folder, max_concurrency=4
    )
    assert done == Progress(total=48, kept=20, answered=28)
    require_each_once(folder)
    assert len(log.read_text().splitlines()) == 48 + 2 * CONCURRENCY


@pytest.mark.wire
def test_the_command_answers_in_shards_and_joins_them(source: Path, folder: Path) -> None:
    with WireServer(reply="fine") as server:
        model = ["-m", "compatible:m", "--base-url", server.openai_url]
        command = ["batch", str(source), str(folder), "--shards", "3", "--workers", "1", *model]
        done = CliRunner().invoke(app, command)
        assert done.stderr == "48 items: 48 answered, 0 answered before, 0 failed\n"
        assert done.exit_code == 0
        assert len(server.requests) == 48
        again = CliRunner().invoke(app, command)
        assert again.stderr == "48 items: 0 answered, 48 answered before, 0 failed\n"
        assert len(server.requests) == 48
    joined = folder.with_name("joined.jsonl")
    done = CliRunner().invoke(app, ["batch", "--join", str(folder), str(joined)])
    assert done.stderr == f"48 results in {joined}\n"
    assert [json.loads(line)["index"] for line in joined.read_text().splitlines()] == [*range(48)]


def test_workers_share_a_budget_over_all_runs(source: Path, folder: Path, log: Path) -> None:
    make = functools.partial(batch_models.fair, str(log))
    spent = []
    for limit in (1000, 1000, 2000):
        budget = Budget(tokens=limit)
        with pytest.raises(BudgetExceededError, match=rf"of {limit:,} tokens are spent"):
            complete_shards(make, source, folder, shards=6, workers=2, budget=budget)
        spent.append(100 * len(log.read_text().splitlines()))
        assert budget.spent_tokens == spent[-1]
    # A request reserves about 105 tokens, so that at most one of 100 is left over.
    assert spent == [900, 900, 1900]
    seen: list[Progress] = []
    done = complete_shards(
        make, source, folder, workers=2, budget=Budget(usd=10), on_progress=seen.append
    )
    assert done == seen[-1] == Progress(total=48, kept=19, answered=29)
    assert done.tokens == 4800
    assert done.cost == pytest.approx(4.8)
    assert len(log.read_text().splitlines()) == 48
    require_each_once(folder)


def test_what_ends_a_worker_ends_the_run(source: Path, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such model"):
        complete_shards(batch_models.broken, source, folder)
    with pytest.raises(LLMError, match="3 workers died over shard 0, the last one with exit code"):
        complete_shards(batch_models.deadly, source, folder)
    with pytest.raises(LLMError, match="3 workers died before they were ready, the last one with"):
        complete_shards(batch_models.fatal, source, folder)
    with pytest.raises(ConfigurationError, match="cannot be sent to another process"):
        complete_shards(lambda: batch_models.fair("log"), source, folder)
    assert not multiprocessing.active_children()
