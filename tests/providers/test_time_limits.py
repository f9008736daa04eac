"""How long an adapter waits: to connect, and for bytes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentkit import ProviderTimeoutError
from agentkit.providers.errors import translate
from agentkit.providers.registry import provider_for
from agentkit.providers.transport import sdk
from agentkit.testing import WireServer, faults
from agentkit.types import Request

PROVIDERS = ["openai", "openai-responses", "groq", "anthropic", "vllm"]
sync_and_async = pytest.mark.parametrize("mode", ["sync", "async"])
every_provider = pytest.mark.parametrize("provider", PROVIDERS)


def failure(adapter: Any, request: Request, mode: str) -> BaseException:
    async def main() -> None:
        try:
            await adapter.asend(request)
        finally:
            await adapter.aclose()

    try:
        if mode == "async":
            asyncio.run(main())
        else:
            adapter.send(request)
    except Exception as exc:
        return translate(exc, provider="p", model="m")
    finally:
        adapter.close()
    pytest.fail("it answered")


@sync_and_async
@every_provider
@pytest.mark.parametrize("timeout", [None, 3600.0])
def test_the_connect_timeout_is_much_shorter_than_the_time_limit(
    provider: str, mode: str, timeout: float | None, deaf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "CONNECT_TIMEOUT", 0.1)
    adapter = provider_for(f"{provider}:m", api_key="k", base_url=deaf)
    error = failure(adapter, Request(prompt="q", timeout=timeout), mode)
    assert isinstance(error, ProviderTimeoutError)


@pytest.mark.wire
@sync_and_async
@pytest.mark.parametrize("params", [{}, {"timeout": 0.2}], ids=["the attempt's", "the caller's"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_silence_ends_with_the_time_limit(
    provider: str, mode: str, params: dict[str, float]
) -> None:
    with WireServer() as server:
        server.always(faults.silence())
        url = server.url if provider in ("anthropic", "groq") else server.openai_url
        adapter = provider_for(f"{provider}:m", api_key="k", base_url=url)
        request = Request(prompt="q", params=params, timeout=None if params else 0.2)
        assert isinstance(failure(adapter, request, mode), ProviderTimeoutError)
