"""``agentkit bedrock``: the catalogue, listed offline and refreshed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentkit.bedrock import APIFetchError, BedrockModelCatalog
from agentkit.cli.app import app

run = CliRunner()


def test_the_bundled_models_are_listed_offline() -> None:
    listed = json.loads(run.invoke(app, ["bedrock", "catalog", "list", "--json"]).stdout)
    names = [model["name"] for model in listed["models"]]
    assert "Claude 3 Haiku" in names
    shown = run.invoke(app, ["bedrock", "catalog", "list", "--region", "us-east-1"])
    assert shown.exit_code == 0
    assert "Claude" in shown.stdout


def test_an_unknown_region_is_a_one_line_error() -> None:
    failed = run.invoke(app, ["bedrock", "catalog", "list", "--region", "mars"])
    assert failed.exit_code != 0
    assert "mars" in failed.output


def test_a_refresh_reports_its_result_and_writes_a_bundle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refreshed(self: BedrockModelCatalog) -> Any:
        return self.get_catalog_metadata()

    monkeypatch.setattr(BedrockModelCatalog, "refresh_catalog", refreshed)
    out = tmp_path / "bundle.json"
    done = run.invoke(app, ["bedrock", "catalog", "refresh", "--export", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text("utf-8"))["models"]


def test_a_failed_refresh_names_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: BedrockModelCatalog) -> Any:
        raise APIFetchError("no Region answered", hint="check the network")

    monkeypatch.setattr(BedrockModelCatalog, "refresh_catalog", failing)
    failed = run.invoke(app, ["bedrock", "catalog", "refresh"])
    assert failed.exit_code == 1
    assert "no Region answered" in failed.output
