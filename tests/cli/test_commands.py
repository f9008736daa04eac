"""The commands as typed: help, version, wrong usage, and the two outputs of the demo."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from agentkit import LLMManager, __version__
from agentkit.cli.app import app
from agentkit.errors import AllModelsFailedError


def test_help_names_every_command_and_the_exit_codes() -> None:
    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0
    for word in ("demo", "stats", "doctor", "--version", "Exit codes"):
        assert word in done.output


@pytest.mark.parametrize("command", ["demo", "stats", "doctor"])
def test_each_command_explains_its_json(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert "--json" in done.output


def test_version_is_the_version_of_the_package() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.output) == (0, f"agentkit {__version__}\n")


@pytest.mark.parametrize("arguments", [["dmeo"], ["demo", "--quick"], ["stats", "a", "b"]])
def test_wrong_usage_is_exit_code_2_with_usage_on_stderr(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Usage" in done.stderr


def test_the_demo_in_json_is_one_object_with_story_and_scoreboard() -> None:
    done = CliRunner().invoke(app, ["demo", "--fast", "--json"])
    assert (done.exit_code, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    assert set(shown) == {"agentkit", "story", "scoreboard"}
    assert all({"at", "kind"} <= set(beat) for beat in shown["story"])
    assert set(shown["scoreboard"]["models"]) == {"primary", "fallback"}
    for score in shown["scoreboard"]["models"].values():
        assert {"attempts", "success_rate", "p50_latency", "p95_latency", "breaker"} <= set(score)
    answers = [beat for beat in shown["story"] if beat["kind"] == "answer"]
    assert len(answers) == shown["scoreboard"]["totals"]["successful_requests"]


def test_without_a_command_the_demo_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    played = []
    monkeypatch.setattr("agentkit.cli.demo.command", lambda **options: played.append(options))
    assert CliRunner().invoke(app, []).exit_code == 0
    assert played == [{}]


def test_an_unanswered_question_is_exit_code_1_and_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: LLMManager, prompt: str) -> str:
        raise AllModelsFailedError("2 models failed", [ValueError("no")], hint="ask later")

    monkeypatch.setattr(LLMManager, "complete", refuse)
    done = CliRunner().invoke(app, ["demo", "--fast", "--json"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "agentkit: 2 models failed: ValueError (no); hint: ask later\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["ask", "--help"], ["config", "check", "--help"], ["runs", "list", "--help"]],
)
def test_flags_are_shown_without_a_type(arguments: list[str]) -> None:
    shown = CliRunner().invoke(app, arguments).stdout
    assert "--help" in shown
    assert "bool" not in shown.lower()
