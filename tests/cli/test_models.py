"""``agentkit models``: providers, SDKs, keys (never shown) and configured models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentkit.cli.app import app
from agentkit.providers import registry, requirements

SECRET = "sk-of-a-test-0123456789"


def models() -> dict[str, Any]:
    done = CliRunner().invoke(app, ["models", "--json"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert SECRET not in done.output
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def provider(name: str) -> dict[str, Any]:
    found: dict[str, Any]
    [found] = [each for each in models()["providers"] if each["name"] == name]
    return found


def test_every_known_provider_is_listed() -> None:
    assert [each["name"] for each in models()["providers"]] == registry.provider_names()


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_API_KEYS"])
def test_a_key_is_present_or_missing_and_never_shown(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert provider("openai")["key"] == "missing"
    monkeypatch.setenv(variable, " ")
    assert provider("openai")["key"] == "missing"
    monkeypatch.setenv(variable, SECRET)
    assert provider("openai")["key"] == "present"
    done = CliRunner().invoke(app, ["models"])
    assert "OPENAI_API_KEY present" in done.stdout
    assert SECRET not in done.output


def test_a_local_server_needs_no_key() -> None:
    assert provider("ollama")["key"] == "not needed"


def test_a_missing_sdk_comes_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provider("groq")["install"] is None
    monkeypatch.setattr(requirements, "is_installed", lambda sdk: sdk != "groq")
    found = provider("groq")
    assert not found["installed"]
    assert found["install"] == 'pip install "agentkit-llms[groq]"'


def test_without_a_configuration_the_problem_is_reported() -> None:
    shown = models()
    assert (shown["source"], shown["configured"]) == (None, [])
    assert "the environment contains no API key" in shown["problem"]


def test_configured_models_are_shown_with_their_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "llm.yaml"
    file.write_text(
        f"""
fallback: spare
default_provider: main
providers:
  main: {{type: openai, api_keys: [{SECRET}], models: first}}
  spare: {{type: anthropic, api_keys: [{SECRET}], models: second}}
"""
    )
    monkeypatch.setenv("AGENTKIT_CONFIG", str(file))
    shown = models()
    assert shown["problem"] is None
    assert [(e["name"], e["model"], e["default"], e["fallback"]) for e in shown["configured"]] == [
        ("main", "openai:first", True, False),
        ("spare", "anthropic:second", False, True),
    ]
    text = CliRunner().invoke(app, ["models"]).stdout
    assert "main openai:first" in text
    assert SECRET not in text


def test_an_invalid_configuration_is_reported_with_exit_code_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTKIT_CONFIG", str(tmp_path / "nowhere.yaml"))
    assert "nowhere.yaml" in models()["problem"]


@pytest.mark.processes
def test_no_sdk_is_imported_to_look_for_it() -> None:
    import subprocess

    code = (
        "import sys; from agentkit.cli.models import command; command(as_json=True); "
        "sys.exit(bool({'openai', 'anthropic', 'groq'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
