"""Every snippet of the two client documents runs as printed, with only its import lines changed."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentkit import ConnectionPool, LLMManager
from agentkit.testing import RecordedRequest, WireServer, faults
from tests.config.files import configured

# The vendor's SDK warns about the printed models, which are years old.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The model 'claude-3:DeprecationWarning"),
    pytest.mark.wire,
]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYTHON = r"```python\n(.*?)```"
MODULE = re.findall(PYTHON, (HERE / "llm_module.md").read_text("utf-8"), re.DOTALL)
ARCHITECTURE = re.findall(PYTHON, (HERE / "llm_architecture.md").read_text("utf-8"), re.DOTALL)
YAML = re.findall(
    r"```yaml\n(.*?)```", (HERE / "llm_architecture.md").read_text("utf-8"), re.DOTALL
)

CITY = {"name": "Paris", "country": "France", "population": 2100000, "landmarks": ["Louvre"]}
ANALYSIS = {
    "language": "python", "imports": [], "complexity": 3,
    "functions": [
        {"name": "f", "parameters": ["x"], "return_type": None, "docstring": None}
    ],
}  # fmt: skip


def reply(body: dict[str, Any]) -> str:
    """What the model says: JSON where the request carries a schema."""
    asked = json.dumps(body)
    if "landmarks" in asked:
        return json.dumps(CITY)
    return json.dumps(ANALYSIS) if "complexity" in asked else "Paris."


@pytest.fixture(params=["sdk", "native"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What answers the documents, which run over each transport."""
    monkeypatch.setenv("AGENTKIT_TRANSPORT", request.param)
    with WireServer(reply=reply) as running:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "made-up-key")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.anthropic_url)
        yield running
        for asked in running.requests:
            assert (asked.headers["user-agent"] == "agentkit") == (request.param == "native")


def key_of(request: RecordedRequest) -> str:
    return request.headers["authorization"].removeprefix("Bearer ")


async def execute(blocks: list[str], namespace: dict[str, Any]) -> None:
    """Run `blocks` in one namespace; ``await`` is allowed at the top."""
    for block in blocks:
        code = compile(block, "document", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        result = eval(code, namespace)
        if inspect.iscoroutine(result):
            await result


async def run_all(blocks: list[str], namespace: dict[str, Any]) -> None:
    try:
        await execute(blocks, namespace)
    finally:
        for value in list(namespace.values()):
            if isinstance(value, LLMManager):
                await value.aclose()


def test_the_client_module_document_runs_in_order(
    server: WireServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ConnectionPool` and `code_snippet` are names that the document uses and never defines."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    namespace: dict[str, Any] = {"ConnectionPool": ConnectionPool, "code_snippet": "def f(x): ..."}
    asyncio.run(run_all(MODULE, namespace))
    printed = capsys.readouterr().out
    assert "Paris." in printed
    assert "City: Paris" in printed
    assert "Population: 2,100,000" in printed
    assert "Function: f(x)" in printed
    keys = [key_of(request) for request in server.requests]
    spread = [keys.count(f"key{number}") for number in (1, 2, 3)]
    assert min(spread) >= 33


def test_the_client_module_document_prints_errors_as_promised(
    server: WireServer, capsys: pytest.CaptureFixture[str]
) -> None:
    index = next(i for i, block in enumerate(MODULE) if "except RateLimitError" in block)
    server.always(faults.status(429, retry_after=7))
    asyncio.run(run_all([MODULE[0].replace("response = await", "0 and await").replace(
        "print(response.content)", ""), MODULE[index]], {}))  # fmt: skip
    assert "Retry after: 7" in capsys.readouterr().out


@pytest.mark.promise("S4-23")
def test_the_pooled_client_document_runs_in_order(
    server: WireServer, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace: dict[str, Any] = {}
    asyncio.run(run_all(ARCHITECTURE, namespace))
    printed = capsys.readouterr().out
    assert printed.count("Paris.") >= 2
    assert "total_requests" in printed


@pytest.mark.promise("S4-19")
def test_its_configuration_file_is_used_as_printed(
    server: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/llm.yaml").write_text(YAML[0], "utf-8")
    namespace: dict[str, Any] = {}
    asyncio.run(run_all(ARCHITECTURE * 2, namespace))
    asked = {(key_of(each), each.model) for each in server.requests}
    assert asked >= {
        ("key1", "claude-3-5-haiku-20241022"),
        ("key2", "claude-3-5-sonnet-20241022"),
        ("key3", "claude-3-opus-20240229"),
    }


@pytest.mark.promise("S4-50")
@pytest.mark.processes
def test_its_example_runs() -> None:
    done = subprocess.run(
        [sys.executable, "examples/llm_usage.py"], cwd=ROOT, capture_output=True, text=True,
        timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.promise("N15", "S4-21")
def test_its_own_configuration_loads(tmp_path: Path) -> None:
    """Three keys, three models and one entry of limits, which holds for each key."""
    with configured(tmp_path, YAML[0]) as llm:
        clients = llm.get_status()["pools"]["anthropic"]["clients"]
    assert [each["limits"]["requests_per_minute"] for each in clients] == [50, 50, 50]
