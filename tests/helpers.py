"""What the tests of several folders share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field

from agentkit import LLMManager
from agentkit.testing import FakeClock, RecordedRequest


class City(BaseModel):
    name: str


class Metropolis(BaseModel):
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
