"""Configured managers over real sockets, and providers that know their key, for the client rows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from agentkit import ConnectionPool, LLMManager, RetryPolicy
from agentkit.config import load_settings
from agentkit.config.manager import manager_for
from agentkit.testing import FakeClock, RecordedRequest, WireServer
from agentkit.types import Request

PROMPT: Any = [{"role": "user", "content": "What is the capital of France?"}]


def configured(path: Any, text: str, **options: Any) -> LLMManager:
    """The manager of a configuration file with the content `text`."""
    file = path / "llm.yaml"
    file.write_text(text, "utf-8")
    options = {"retry": RetryPolicy(base_delay=0.0), **options}
    return manager_for(load_settings(file, {}), **options)


def anthropic(server: WireServer, keys: str = "[k1]", more: str = "") -> str:
    """A configuration of the one provider ``anthropic`` at `server`; `more` are its other lines."""
    lines = [f"api_keys: {keys}", f"base_url: {server.anthropic_url}", *more.splitlines()]
    models = [] if "models:" in more else ["models: some-model"]
    return "providers:\n  anthropic:\n" + "".join(f"    {line}\n" for line in lines + models)


def openai_file(server: WireServer) -> str:
    """A configuration of the one provider ``openai`` at `server`."""
    url = server.openai_url
    return f"providers:\n  openai: {{api_keys: any, models: some-model, base_url: '{url}'}}\n"


def key_of(request: RecordedRequest) -> str:
    """The API key that a request carried."""
    headers = request.headers
    own = headers.get("x-api-key") or headers.get("x-goog-api-key")
    return own or headers["authorization"].removeprefix("Bearer ")


class Keyed:
    """A provider whose behaviour depends on its key; counts what each key was asked."""

    provider = "keyed"

    def __init__(
        self, behave: Callable[[str], Any], asked: Counter[str] | None = None, key: str = ""
    ) -> None:
        self.behave = behave
        self.asked: Counter[str] = Counter() if asked is None else asked
        self.key = key

    def with_key(self, key: str) -> Keyed:
        return type(self)(self.behave, self.asked, key)

    def send(self, request: Request) -> Any:
        self.asked[self.key] += 1
        return self.behave(self.key)


class Gathering(Keyed):
    """Answers nobody before `expected` calls are here; notes how many each key has at once."""

    expected = 6
    here: Counter[str]
    opened: asyncio.Event
    send = None  # type: ignore[assignment]

    async def asend(self, request: Request) -> str:
        self.here[self.key] += 1
        if self.here.total() == self.expected:
            self.opened.set()
        await self.opened.wait()
        return self.key


def pooled(
    provider: Keyed, keys: int = 2, *, clock: FakeClock | None = None, **pool: Any
) -> LLMManager:
    """A manager of the model ``m`` with the keys k1, k2, …"""
    llm = LLMManager(enable_caching=False, clock=clock, retry=RetryPolicy(jitter=0.0))
    names = [f"k{number}" for number in range(1, keys + 1)]
    llm.register_model("m", provider, pool=ConnectionPool(names, **pool))
    return llm
