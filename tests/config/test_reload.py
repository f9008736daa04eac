"""A changed configuration: the same manager, with only the changed part replaced."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agentkit import get_llm_manager
from agentkit.config import KeySettings, ProviderSettings, Settings
from agentkit.testing import WireServer

pytestmark = pytest.mark.wire


def provider(name: str, url: str, *keys: str) -> ProviderSettings:
    return ProviderSettings(
        name=name,
        kind="compatible",
        base_url=url,
        keys=tuple(KeySettings(secret=key, model="m") for key in keys),
    )


def settings(*providers: ProviderSettings) -> Settings:
    return Settings(
        providers={each.name: each for each in providers},
        default_provider=providers[0].name,
        fallback=tuple(each.name for each in providers[1:]),
        source="a test",
    )


def keys_of(server: WireServer) -> list[str]:
    return [each.headers["authorization"].removeprefix("Bearer ") for each in server.requests]


def test_changed_keys_replace_that_pool_and_leave_the_rest() -> None:
    with WireServer(reply="x") as server:
        url = server.openai_url
        old = settings(provider("a", url, "old"), provider("b", url, "same"))
        new = settings(provider("a", url, "new"), provider("b", url, "same"))

        async def main() -> None:
            manager = await get_llm_manager(old)
            await manager.acomplete("hi", model="a")
            await manager.acomplete("hi", model="b")
            kept = manager.registry.get("b")
            assert await get_llm_manager(old) is manager
            assert await get_llm_manager(new) is manager
            assert manager.registry.get("b") is kept
            await manager.acomplete("hi", model="a")
            assert manager.get_model_info("a")["stats"]["requests"] == 2
            await manager.aclose()
            again = await get_llm_manager(new)
            assert again is not manager
            await again.aclose()

        asyncio.run(main())
        assert keys_of(server) == ["old", "same", "new"]


def test_a_stream_in_progress_keeps_its_configuration() -> None:
    with WireServer(reply="one two three four", chunk_delay=0.02) as server:
        url = server.openai_url
        old = settings(provider("a", url, "old"))

        async def main() -> str:
            manager = await get_llm_manager(old)
            texts = []
            async with manager.astream("hi") as stream:
                async for text in stream:
                    texts.append(text)
                    if len(texts) == 1:
                        await get_llm_manager(settings(provider("a", url, "new")))
            assert (await manager.acomplete("hi")).text == "one two three four"
            await manager.aclose()
            return "".join(texts)

        assert asyncio.run(main()) == "one two three four"
        assert keys_of(server) == ["old", "new"]


def test_a_removed_provider_is_not_called_again() -> None:
    with WireServer(reply="x") as server:
        url = server.openai_url
        both = settings(provider("a", url, "k1"), provider("b", url, "k2"))
        one = replace(settings(provider("b", url, "k2")), source=both.source)

        async def main() -> None:
            manager = await get_llm_manager(both)
            await get_llm_manager(one)
            assert manager.list_models() == ["b"]
            assert (await manager.acomplete("hi")).model == "b"
            await manager.aclose()

        asyncio.run(main())


def test_each_event_loop_has_its_own_manager() -> None:
    with WireServer(reply="x") as server:
        config = settings(provider("a", server.openai_url, "k"))

        async def ask() -> int:
            manager = await get_llm_manager(config)
            assert (await manager.get_client("a").chat("hi")) == "x"
            await manager.aclose()
            return id(manager)

        asyncio.run(ask())
        asyncio.run(ask())
        assert len(server.requests) == 2
