"""What the reference says about the configuration file is what the code checks."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentkit.config import load_settings
from agentkit.config.check import check
from agentkit.config.schema import json_schema
from agentkit.providers.registry import MODELS_AS_OF, PROVIDERS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(name="writer")
def _writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("w", ROOT / "docs/_hooks/configuration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_schema_and_tables_are_current(writer: ModuleType) -> None:
    hint = "run `python docs/_hooks/configuration.py`"
    assert writer.SCHEMA.read_text("utf-8") == writer.schema_text(), hint
    page = writer.PAGE.read_text("utf-8")
    assert page == writer.page_text(page), hint
    assert page.count("| field |") == 5


def described(schema: dict[str, Any]) -> list[str]:
    """The fields of the schema that have no description."""
    tables = {"File": schema, **schema["$defs"]}
    return [
        f"{table}.{name}"
        for table, each in tables.items()
        for name, field in each["properties"].items()
        if not field.get("description")
    ]


def test_every_field_is_described() -> None:
    assert described(json_schema()) == []


def test_the_page_names_the_defaults_of_the_table() -> None:
    page = (ROOT / "docs/reference/configuration.md").read_text("utf-8")
    assert MODELS_AS_OF in page
    for kind, each in PROVIDERS.items():
        assert f"`{kind}`" in page
        for name in (each.model, *each.all_key_variables):
            assert name is None or f"`{name}`" in page


def test_the_example_loads_and_nothing_in_it_is_warned_about() -> None:
    environ = {"ANTHROPIC_API_KEYS": "a,b", "OPENAI_API_KEY": "c"}
    settings = load_settings(ROOT / "examples/config/llm.yaml", environ)
    assert [len(each.keys) for each in settings.route] == [2, 1, 1]
    report = check(settings, environ)
    assert [each.text for each in report.findings if each.level == "warning"] == []
    json.dumps(report.as_json())
