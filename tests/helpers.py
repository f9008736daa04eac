"""What the tests of several folders share."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from agentkit import CircuitBreaker, LLMManager, RetryPolicy
from agentkit.testing import FakeClock, RecordedRequest


class City(BaseModel):
    name: str


class Town(BaseModel):
    """A type that rejects some of its values."""

    name: str
    population: int = Field(gt=0)


def manager_of(*models: Any, clock: FakeClock | None = None, **options: Any) -> LLMManager:
    """A manager of `models`, in this order and named m0, m1, ...

    It keeps no answers and waits on `clock`, with the nominal back-off; `options` win.
    """
    usual = {"enable_caching": False, "rng": lambda: 0.5, "clock": clock or FakeClock()}
    llm = LLMManager(**{**usual, **options})
    names = [f"m{number}" for number in range(len(models))]
    for name, model in zip(names, models, strict=True):
        llm.register_model(name, model)
    if names:
        llm.set_fallback_chain(names)
    return llm


def with_backup(
    model: Any,
    *,
    attempts: int = 2,
    timeout: float | None = 20.0,
    breaker: CircuitBreaker | None = None,
    backup: bool = True,
) -> LLMManager:
    """A manager of `model` as "primary", and of one that answers "from backup"."""
    retry = RetryPolicy(max_attempts=attempts, base_delay=0.002)
    llm = LLMManager(enable_caching=False, retry=retry)
    llm.register_model("primary", model, breaker=breaker, timeout=timeout)
    if backup:
        llm.register_model("backup", lambda prompt, kwargs: "from backup")
        llm.set_fallback_chain(["primary", "backup"])
    return llm


def failing(error: type[Exception], log: list[str], name: str = "m") -> Callable[..., str]:
    """A model that always raises, after it wrote its name to `log`."""

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        log.append(name)
        raise error

    return model


def key_of(request: RecordedRequest) -> str:
    """The API key that a request carried."""
    headers = request.headers
    own = headers.get("x-api-key") or headers.get("x-goog-api-key")
    return own or headers["authorization"].removeprefix("Bearer ")


def generate(llm: LLMManager, prompt: str = "hi", **options: Any) -> str:
    return llm.generate(prompt, response_model=None, **options)


def agenerate(llm: LLMManager, prompt: str = "hi", **options: Any) -> str:
    return asyncio.run(llm.agenerate(prompt, response_model=None, **options))


def stream(llm: LLMManager, prompt: str = "hi", **options: Any) -> str:
    with llm.stream(prompt, **options) as pieces:
        return "".join(pieces)


def astream(llm: LLMManager, prompt: str = "hi", **options: Any) -> str:
    async def read() -> str:
        async with llm.astream(prompt, **options) as pieces:
            return "".join([piece async for piece in pieces])

    return asyncio.run(read())


Ask = Callable[..., str]
each_way = pytest.mark.parametrize("ask", [generate, agenerate, stream, astream])
"""The four ways to ask a manager for text."""


def is_collected(reference: Callable[[], object]) -> bool:
    """Whether the collector has taken what a weak `reference` led to.

    It does nothing while it runs in another thread, so ask `until` it is.
    """
    gc.collect()
    return reference() is None


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does; a busy machine may need long to begin with it."""
    limit = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < limit
        threading.Event().wait(0.002)


def no_home(name: str) -> Path:
    """What platformdirs says of a user without a home directory."""
    raise RuntimeError(f"could not determine the home directory for {name}")
