"""``agentkit runs``: the runs of a journal, listed, shown, resumed and cancelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentkit import RunStore
from agentkit.cli.app import app
from agentkit.types import Response
from tests.agent.journal.helpers import KilledError, Plan, World, agent_for, calls, tools_of

WORLD = World()
ANSWERS = (calls("look", step=1), calls("pay", step=2), Response("done"))
clerk = agent_for(WORLD, Plan(WORLD, ANSWERS), tools=tools_of(WORLD))
"""The agent of these tests, for ``--agent``."""


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("AGENTKIT_JOURNAL", raising=False)
    url = f"sqlite:///{tmp_path}/runs.sqlite"
    with RunStore(url) as store:
        clerk.run("Pay the bill.", run_id="order-17", journal=store)
    return url


def runs(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["runs", *arguments], env={"AGENTKIT_JOURNAL": url})


def resume(url: str, *arguments: str) -> Result:
    return runs(url, "resume", "--agent", f"{__name__}:clerk", *arguments)


def test_runs_are_listed(url: str) -> None:
    result = runs(url, "list")
    assert result.exit_code == 0
    assert [line.split()[:3] for line in result.stdout.splitlines()] == [
        ["run", "agent", "status"],
        ["order-17", "agent", "waiting"],
    ]
    listed = json.loads(runs(url, "list", "--json").stdout)["runs"]
    assert [(each["id"], each["pending"]) for each in listed] == [("order-17", ["pay-2"])]
    assert json.loads(runs(url, "list", "--status", "abandoned", "--json").stdout) == {"runs": []}


def test_the_story_of_a_run_has_its_costs_and_what_waits(url: str) -> None:
    lines = [line.split(" s  ")[-1] for line in runs(url, "show", "order-17").stdout.splitlines()]
    assert lines[:3] == [
        "run order-17 of agent agent: waiting",
        "task: Pay the bill.",
        "1 m: 1 tool calls, 6+4 tokens, 0.010000 USD",
    ]
    assert lines[3].startswith('1.0 look({"x":1}): done in 0.')
    assert lines[4:] == [
        "2 m: 1 tool calls, 6+4 tokens, 0.010000 USD",
        '             2.0 pay({"x":2}): waits for approval (pay-2)',
        "2 answers, 20 tokens, 0.020000 USD, 1 claims",
    ]
    shown = json.loads(runs(url, "show", "order-17", "--json").stdout)
    assert [each["name"] for each in shown["steps"]][:2] == ["start", "1.model"]


def test_a_run_is_resumed_with_decisions(url: str) -> None:
    result = resume(url, "order-17")
    assert result.exit_code == 0
    assert 'waits for approval of pay-2: pay {"x": 2}' in result.stderr
    assert resume(url, "order-17", "--approve", "zz").exit_code == 1
    result = resume(url, "order-17", "--edit", 'pay-2={"x": 1}')
    assert (result.exit_code, result.stdout) == (0, "order-17: done\n")
    assert 'approved with {"x":1}' in runs(url, "show", "order-17").stdout


def test_a_call_in_doubt_is_shown_and_abandoned_runs_are_resumed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(what: str, context: Any) -> None:
        raise KilledError

    with RunStore(url) as store, monkeypatch.context() as patch:
        patch.setattr(WORLD, "did", die)
        with pytest.raises(KilledError):
            clerk.resume("order-17", journal=store, approve=["pay-2"])
    shown = runs(url, "show", "order-17").stdout
    assert 'pay({"x":2}): approved' in shown
    assert 'pay({"x":2}): started, in doubt: no result is recorded' in shown
    assert [each["status"] for each in json.loads(runs(url, "list", "--json").stdout)["runs"]] == [
        "abandoned"
    ]
    result = resume(url, "--all")
    assert result.exit_code == 0
    assert 'pay-2: pay {"x": 2}, which is in doubt' in result.stderr
    assert resume(url, "order-17", "--deny", "pay-2=it was paid").stdout == "order-17: done\n"
    assert "denied: it was paid" in runs(url, "show", "order-17").stdout


def test_a_run_is_cancelled(url: str) -> None:
    assert runs(url, "cancel", "order-17").exit_code == 0
    result = resume(url, "order-17", "--approve", "pay-2")
    assert result.exit_code == 1
    assert "was cancelled" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["show", "zz"], "no run 'zz'"),
        (["cancel", "zz"], "no run 'zz'"),
        (["list", "--journal", "sqlite:///missing.sqlite"], "no journal missing.sqlite"),
        (["list", "--journal", "mysql://h"], "journal is 'mysql://h'"),
        (["resume", "--agent", "json:dumps", "order-17"], "not an Agent"),
        (["resume", "--agent", "no_such_module:a", "order-17"], "cannot be imported"),
        (["resume", "--agent", "json", "order-17"], "cannot be imported"),
        (["resume", "--agent", f"{__name__}:clerk"], "name one run"),
        (["resume", "--agent", f"{__name__}:clerk", "--all", "r"], "name one run"),
        (["resume", "--agent", f"{__name__}:clerk", "order-17", "--edit", "a=1"], "JSON object"),
    ],
)
def test_an_error_is_one_line(url: str, arguments: list[str], named: str) -> None:
    result = runs(url, *arguments)
    assert result.exit_code == 1
    assert named in result.stderr
    assert result.stderr.count("\n") == 1
