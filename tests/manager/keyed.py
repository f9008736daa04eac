"""Providers that know their key, behind pools of keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from agentkit import ConnectionPool, LLMManager, RetryPolicy
from agentkit.testing import FakeClock
from agentkit.types import Request

Behaviour = Callable[[str, Request], Any]


class Keyed:
    """A provider whose behaviour depends on its key; counts what each key was asked."""

    provider = "keyed"

    def __init__(
        self,
        behave: Behaviour,
        asked: Counter[str] | None = None,
        made: list[Keyed] | None = None,
        key: str = "",
    ) -> None:
        self.behave = behave
        self.asked: Counter[str] = Counter() if asked is None else asked
        self.made: list[Keyed] = [] if made is None else made
        self.key = key
        self.closed = False

    def with_key(self, key: str) -> Keyed:
        self.made.append(type(self)(self.behave, self.asked, self.made, key))
        return self.made[-1]

    def send(self, request: Request) -> Any:
        self.asked[self.key] += 1
        return self.behave(self.key, request)

    def close(self) -> None:
        self.closed = True


def answers(key: str, request: Request) -> str:
    return f"by {key}"


def pooled(
    behave: Behaviour, keys: list[str] | None = None, *, clock: FakeClock | None = None, **pool: Any
) -> tuple[LLMManager, Keyed]:
    """A manager of the model ``m`` behind `keys`, by default k1 to k3, and its provider."""
    provider = Keyed(behave)
    llm = LLMManager(enable_caching=False, clock=clock, retry=RetryPolicy(jitter=0.0))
    llm.register_model("m", provider, pool=ConnectionPool(keys or ["k1", "k2", "k3"], **pool))
    return llm, provider
