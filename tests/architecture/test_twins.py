"""The sync and the async version of a method take the same arguments."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

TWINS = {
    "LLMManager": ("generate", "complete", "stream", "batch"),
    "Agent": ("ask", "execute_task", "resume", "resume_all", "run", "stream"),
    "CircuitBreaker": ("call",),
}


def parameters(method: Any) -> list[tuple[str, Any, Any]]:
    """What a caller passes: name, kind and default of each parameter."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]


@pytest.mark.parametrize("name", TWINS)
def test_the_promised_twins_exist(name: str) -> None:
    cls = getattr(importlib.import_module("agentkit"), name)
    assert [x for x in TWINS[name] if not (hasattr(cls, x) and hasattr(cls, f"a{x}"))] == []


@pytest.mark.parametrize("name", TWINS)
def test_twins_take_the_same_arguments(name: str) -> None:
    cls = getattr(importlib.import_module("agentkit"), name)
    pairs = [(x, f"a{x}") for x in dir(cls) if x[0] != "_" and hasattr(cls, f"a{x}")]
    different = [
        (x, ax) for x, ax in pairs if parameters(getattr(cls, x)) != parameters(getattr(cls, ax))
    ]
    assert pairs
    assert different == []
