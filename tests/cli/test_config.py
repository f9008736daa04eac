"""``agentkit config``: its output and exit codes, without any key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentkit.cli.app import app
from agentkit.config import ProviderSettings, load_settings

SECRET = "sk-live-4f9a7c2e81d35b60"
FILE = f"""\
providers:
  primary: {{type: groq, api_keys: {SECRET}, models: big, context_window: 9000}}
  backup: {{type: groq, api_keys: {SECRET}, models: small, context_window: 800}}
fallback: backup
"""


@pytest.fixture(autouse=True)
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("llm.yaml").write_text(FILE, "utf-8")


def config(*arguments: str) -> Result:
    done = CliRunner().invoke(app, ["config", *arguments])
    assert SECRET not in done.output
    return done


def as_json(*arguments: str) -> dict[str, Any]:
    done = config(*arguments)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_check_reports_the_worst_case_and_the_risks() -> None:
    done = config("check", "llm.yaml")
    assert (done.exit_code, done.stderr) == (0, "")
    for part in (
        "6 calls, 300.0 s (ended by the deadline)",
        "primary: at most 3 calls",
        "warning: providers.backup.context_window",
        "share the quota of one key",
    ):
        assert part in done.stdout


def test_check_in_json_is_one_object() -> None:
    found = as_json("check", "llm.yaml", "--json")
    assert (found["ok"], found["problems"]) == (True, [])
    assert found["worst_case"]["calls"] == 6
    assert {each["level"] for each in found["findings"]} <= {"warning", "note"}
    assert found["fingerprint"] == load_settings("llm.yaml", {}).fingerprint


def test_a_configuration_without_findings_has_no_problems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", SECRET)
    done = config("check")
    assert done.exit_code == 0
    assert "No problems found" in done.stdout


def test_check_reports_a_request_without_a_time_limit() -> None:
    Path("llm.yaml").write_text(f"{FILE}deadline: null\n".replace("big", "big, timeout: null"))
    assert "6 calls, unlimited time" in config("check", "llm.yaml").stdout


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_broken_configuration_is_exit_code_1_and_one_line(command: str) -> None:
    Path("llm.yaml").write_text(f"providers: {{groq: {{api_key: {SECRET}}}}}", "utf-8")
    done = config(command, "llm.yaml")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "agentkit: llm.yaml:1: providers.groq.api_key: unknown key; "
        "hint: did you mean `api_keys`?\n"
    )


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("a: [", ["llm.yaml:1"]),
        ("a: 1\nproviders: {groq: {timeout: 0}}", ["llm.yaml:1", "llm.yaml:2"]),
    ],
)
def test_problems_in_json_are_a_list(text: str, problems: list[str]) -> None:
    Path("llm.yaml").write_text(text, "utf-8")
    done = config("check", "llm.yaml", "--json")
    assert (done.exit_code, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert sorted(":".join(each.split(":")[:2]) for each in found["problems"]) == problems


def test_show_prints_every_value_but_no_key() -> None:
    found = as_json("show", "llm.yaml", "--json")
    assert (found["default_provider"], found["fallback"]) == ("primary", ["backup"])
    (key,) = found["providers"]["primary"]["keys"]
    settings = load_settings("llm.yaml", {})
    assert key["key"] == settings.providers["primary"].keys[0].fingerprint
    assert (key["from"], key["model"], key["max_concurrency"]) == ("llm.yaml:2", "big", 5)
    lines = [line.split() for line in config("show", "llm.yaml").stdout.splitlines()]
    for line in (
        ["deadline", "300.0"],
        ["context_window", "800"],
        ["base_url", "–"],
        ["key", key["key"]],
        ["from", "llm.yaml:2"],
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rediss://user:secret@store:6379/1", "rediss://store:6379/1"),
        ("unix://:secret@/run/store.sock", "unix:///run/store.sock"),
        ("off", "off"),
    ],
)
def test_show_prints_the_store_of_a_fleet_without_its_password(url: str, shown: str) -> None:
    with Path("llm.yaml").open("a", encoding="utf-8") as file:
        file.write(f"\nfleet: {url}\n")
    assert as_json("show", "llm.yaml", "--json")["fleet"] == shown
    assert "secret" not in config("show", "llm.yaml").stdout


def test_show_covers_every_field() -> None:
    settings = load_settings("llm.yaml", {})
    found = as_json("show", "llm.yaml", "--json")
    assert set(settings.__slots__) <= set(found)
    shown = set(found["providers"]["primary"])
    assert set(ProviderSettings.model_fields) - {"name", "kind"} <= shown


def test_schema_is_a_json_schema() -> None:
    found = as_json("schema")
    assert found["$schema"].startswith("https://json-schema.org/")
    assert "providers" in found["properties"]


def test_init_writes_the_providers_with_keys_and_overwrites_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("GROQ_API_KEYS", SECRET)
    assert config("init").exit_code == 0
    text = Path("config/llm.yaml").read_text("utf-8")
    assert SECRET not in text
    settings = load_settings("config/llm.yaml")
    assert set(settings.providers) == {"openai", "groq"}
    assert as_json("check", "--json")["ok"] is True
    again = config("init")
    assert (again.exit_code, Path("config/llm.yaml").read_text("utf-8")) == (1, text)
    assert "exists" in again.stderr


def test_init_without_a_key_writes_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC", "OPENAI", "GEMINI", "GOOGLE", "GROQ"):
        for suffix in ("_API_KEY", "_API_KEYS"):
            monkeypatch.delenv(name + suffix, raising=False)
    assert config("init", "new/first.yaml").exit_code == 0
    assert set(load_settings("new/first.yaml", {"OPENAI_API_KEY": "k"}).providers) == {"openai"}


def test_every_problem_is_reported_at_once_with_its_remedy() -> None:
    lines = [
        "providers:",
        "  openai:",
        "  api_keys: ${OPENAI_API_KEY}",
        "  anthropic:",
        "    api_keys: ${MISSING}",
        "    timeout: soon",
    ]
    Path("wrong.yaml").write_text("\n".join(lines), "utf-8")
    done = config("check", "wrong.yaml")
    assert done.exit_code == 1
    first, *problems = done.stderr.splitlines()
    assert first == "agentkit: 3 problems in the configuration"
    for line, part in (
        ("3", "api_keys: is not a provider (indent it further, below `openai`)"),
        ("5", "the variable MISSING is not set (set MISSING to a key)"),
        ("6", "timeout: soon: input should be a valid number (use a number without quotes)"),
    ):
        assert any(f"wrong.yaml:{line}:" in each and each.endswith(part) for each in problems)
    assert len(as_json("check", "wrong.yaml", "--json")["problems"]) == 3


def test_no_attempts_are_refused_with_what_the_number_counts() -> None:
    Path("wrong.yaml").write_text("max_retries: 0\nproviders:\n  openai: {api_keys: k}\n", "utf-8")
    assert "it counts attempts: 1 is a single attempt" in config("check", "wrong.yaml").stderr


def test_a_field_at_the_top_belongs_to_a_provider() -> None:
    Path("wrong.yaml").write_text("api_keys: k\nproviders:\n  openai: {api_keys: k}\n", "utf-8")
    done = config("check", "wrong.yaml")
    assert "api_keys: belongs to a provider; hint: indent it further" in done.stderr


def test_ask_keeps_the_remedy_of_a_broken_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("wrong.yaml").write_text("providers:\n  openai: {api_keys: '${MISSING}'}\n", "utf-8")
    monkeypatch.setenv("AGENTKIT_CONFIG", "wrong.yaml")
    done = CliRunner().invoke(app, ["ask", "hello"])
    assert "the variable MISSING is not set; hint: set MISSING to a key" in done.stderr


def test_a_failed_show_with_json_is_json() -> None:
    found = as_json("show", "missing.yaml", "--json")
    assert found["error"]["type"] == "ConfigurationError"
