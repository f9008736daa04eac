"""Every snippet of the registry document runs as printed, with only its import lines changed."""

from __future__ import annotations

import ast
import gc
import re
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit import LLMManager
from agentkit.testing import WireServer

# The document never closes its SDK clients, so the collector may meet their sockets at any time.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

DOCUMENT = (Path(__file__).parent / "registry.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
MULTI_PROVIDER = next(index for index, block in enumerate(BLOCKS) if "ChatCompletion" in block)


@pytest.fixture(autouse=True)
def _no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def stub(prompt: str, kwargs: dict[str, Any]) -> str:
    return f"answer to {len(prompt)} characters"


def furnish(manager: LLMManager) -> None:
    """The document leaves some managers without a model and then asks them."""
    for name in ("gpt-4", "model-name"):
        manager.register_model(name, stub)
    manager.set_active_model("gpt-4")


def execute(blocks: list[str], namespace: dict[str, Any]) -> None:
    """Run `blocks` statement by statement in one namespace; furnish managers left empty."""
    for block in blocks:
        for node in ast.parse(block).body:
            asks = "generate(" in ast.unparse(node) or "get_model_info(" in ast.unparse(node)
            if asks:
                for value in namespace.values():
                    if isinstance(value, LLMManager) and not value.list_models():
                        furnish(value)
            exec(compile(ast.Module([node], []), "registry.md", "exec"), namespace)


def sdks_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins with the removed API that the document was written against."""
    message = types.SimpleNamespace(content="society changes")
    created = types.SimpleNamespace(choices=[types.SimpleNamespace(message=message)])
    openai: Any = types.ModuleType("openai")
    openai.ChatCompletion = types.SimpleNamespace(create=lambda **_: created)
    monkeypatch.setitem(sys.modules, "openai", openai)


@pytest.mark.filterwarnings("ignore:fallback chain")  # it names a model that it never registers
def test_the_whole_document_runs_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The blocks share one namespace; `inference_fn` and `prompt` are the document's own gaps."""
    sdks_without_network(monkeypatch)
    namespace: dict[str, Any] = {"inference_fn": stub, "prompt": "What is AI?"}
    execute(BLOCKS, namespace)
    printed = capsys.readouterr().out
    assert "Generated response from GPT-4" in printed
    assert "Circuit breaker state: closed" in printed
    assert "Success rate: 100.00%" in printed
    assert namespace["response1"] == namespace["response2"]
    assert namespace["llm"].get_metrics()["success_rate"] == 1.0


@pytest.mark.wire
@pytest.mark.filterwarnings("ignore:The model 'claude-3-opus:DeprecationWarning")
def test_the_removed_vendor_call_falls_back_to_the_other_real_sdk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`openai.ChatCompletion` is gone from the SDK: the real anthropic SDK answers instead."""
    with WireServer(reply="Deeply.") as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "made-up")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.anthropic_url)
        namespace: dict[str, Any] = {}
        execute([BLOCKS[MULTI_PROVIDER]], namespace)
        assert namespace["response"] == "Deeply."
        assert namespace["llm"].get_model_info("gpt-4")["stats"]["failures"] > 0
        assert [request.provider for request in server.requests] == ["anthropic"]


OPENAI_TODAY = """
def openai_inference(prompt: str, kwargs: dict) -> str:
    import openai
    client = openai.OpenAI(api_key=os.getenv("OPENAI_API_KEY"), max_retries=0)
    response = client.chat.completions.create(
        model="gpt-4", messages=[{"role": "user", "content": prompt}], **kwargs
    )
    return response.choices[0].message.content
"""


@pytest.mark.promise("S3-39")
@pytest.mark.wire
@pytest.mark.filterwarnings("ignore:The model 'claude-3-opus:DeprecationWarning")
@pytest.mark.parametrize("outage", [False, True])
def test_with_todays_call_both_real_sdks_answer(
    monkeypatch: pytest.MonkeyPatch, outage: bool
) -> None:
    """The multi-provider example over real sockets: the primary answers, or its fallback does."""
    from agentkit.testing import faults

    block = re.sub(
        r"def openai_inference.*?\n\n(?=def anthropic)", OPENAI_TODAY + "\n",
        BLOCKS[MULTI_PROVIDER], flags=re.DOTALL,
    )  # fmt: skip
    with WireServer(reply="Deeply.") as server:
        if outage:
            server.always(faults.status(503), model="gpt-4")
        for name, url in (("OPENAI", server.openai_url), ("ANTHROPIC", server.anthropic_url)):
            monkeypatch.setenv(f"{name}_API_KEY", "made-up")
            monkeypatch.setenv(f"{name}_BASE_URL", url)
        namespace: dict[str, Any] = {}
        execute([block], namespace)
        assert namespace["response"] == "Deeply."
        providers = [request.provider for request in server.requests]
        assert providers[-1] == ("anthropic" if outage else "openai")
        assert namespace["metrics"]["success_rate"] == 1.0


@pytest.fixture(autouse=True)
def _clients_left_open() -> Iterator[None]:
    """The document never closes its SDK clients; their sockets go here, not in another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _names(fn: Callable[..., Any]) -> list[str]:
    import inspect

    return list(inspect.signature(fn).parameters)


def test_the_documents_signatures_are_the_packages() -> None:
    """Parameter names and order of the printed method list."""
    from agentkit import CircuitBreaker

    assert _names(LLMManager)[:2] == ["max_retries", "enable_caching"]
    assert _names(CircuitBreaker)[:2] == ["failure_threshold", "recovery_timeout"]
    assert _names(LLMManager.register_model)[1:4] == ["name", "inference_fn", "metadata"]
    assert _names(LLMManager.generate)[1:3] == ["prompt", "use_cache"]
    assert LLMManager().list_models() == []
