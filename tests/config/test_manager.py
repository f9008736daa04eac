"""Managers that a configuration makes, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import time
import traceback
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from agentkit import (
    ConfigurationError,
    ConnectionPool,
    LLMAuthenticationError,
    LLMManager,
    LLMProvider,
    Message,
    MetricsMiddleware,
    RateLimitError,
    get_llm_manager,
)
from agentkit.config import load_settings
from agentkit.testing import WireServer, faults
from tests.config.files import anthropic, configured
from tests.helpers import City, key_of, until

URLS: dict[LLMProvider, Callable[[WireServer], str]] = {
    LLMProvider.ANTHROPIC: lambda server: server.anthropic_url,
    LLMProvider.OPENAI: lambda server: server.openai_url,
    LLMProvider.GOOGLE: lambda server: server.google_url,
    LLMProvider.GROQ: lambda server: server.groq_url,
    LLMProvider.LOCAL: lambda server: server.openai_url,
}
SECRET = "made-up-key-4711"
CANARY = "canary-prompt"


@pytest.mark.promise("S2-01")
@pytest.mark.wire
@pytest.mark.parametrize("provider", LLMProvider)
def test_every_named_provider_answers(provider: LLMProvider, tmp_path: Path) -> None:
    with WireServer(reply="Paris.") as server:
        text = f"providers:\n  {provider}:\n    models: m\n    base_url: {URLS[provider](server)}\n"
        keyless = provider is LLMProvider.LOCAL
        with configured(tmp_path, text + ("" if keyless else "    api_keys: any\n")) as llm:
            assert asyncio.run(llm.get_client(provider).chat("capital?")) == "Paris."
        assert server.requests[0].model in ("m", "models/m")


@pytest.mark.promise("S2-03")
@pytest.mark.parametrize("name", ["ANTHROPIC", "OPENAI", "GOOGLE", "GROQ"])
def test_a_key_variable_sets_its_provider_up_and_the_plural_wins(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    async def clients() -> int:
        async with await get_llm_manager() as llm:
            assert llm.list_models() == [name.lower()]
            llm.get_client(LLMProvider[name])
            return int(llm.get_status()["pools"][name.lower()]["total_clients"])

    monkeypatch.setenv(f"{name}_API_KEY", "one")
    assert asyncio.run(clients()) == 1
    monkeypatch.setenv(f"{name}_API_KEYS", "two,three")
    assert asyncio.run(clients()) == 2


@pytest.mark.promise("N9", "S2-12", "S4-22")
@pytest.mark.wire
def test_one_manager_for_each_loop_and_a_fresh_one_after_close(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")

    async def both() -> tuple[LLMManager, LLMManager]:
        first = await get_llm_manager()
        assert await get_llm_manager() is first
        await first.aclose()
        fresh = await get_llm_manager()
        assert await fresh.get_client().chat("hi")
        return first, fresh

    with WireServer() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.anthropic_url)
        managers = [*asyncio.run(both()), *asyncio.run(both())]
        assert len({id(each) for each in managers}) == 4
        assert [each.closed for each in managers] == [True, False, True, False]
        for each in managers:
            each.close()


def _in_two_minutes() -> str:
    return formatdate(time.time() + 120, usegmt=True)


@pytest.mark.promise("S2-21")
@pytest.mark.wire
@pytest.mark.parametrize(
    ("headers", "earliest", "latest"),
    [
        (lambda: {"retry_after": 7}, 7.0, 7.0),
        (lambda: {"retry_after_ms": 1500}, 1.5, 1.5),
        (lambda: {"retry_after": _in_two_minutes()}, 60.0, 120.0),
    ],
)
def test_a_rate_limit_says_when_to_come_back(
    headers: Callable[[], dict[str, Any]], earliest: float, latest: float, tmp_path: Path
) -> None:
    with WireServer() as server, configured(tmp_path, anthropic(server)) as llm:
        server.script(faults.status(429), faults.status(429, **headers()))
        waits: list[float | None] = []
        for _ in range(2):
            with pytest.raises(RateLimitError) as caught:
                asyncio.run(llm.get_client().complete("hi", max_retries=1))
            waits.append(caught.value.retry_after)
    assert waits[0] is None
    assert earliest <= (waits[1] or 0.0) <= latest


@pytest.mark.promise("S2-24")
@pytest.mark.wire
def test_anthropic_gets_a_picture_and_200_000_words(tmp_path: Path) -> None:
    long = "word " * 200_000
    picture = {"type": "image", "data": b"\x89PNG", "media_type": "image/png"}
    messages = [Message("user", [{"type": "text", "text": long}, picture])]
    with WireServer() as server, configured(tmp_path, anthropic(server)) as llm:
        asyncio.run(llm.get_client().complete(messages, system_prompt="Be brief.", max_tokens=9))
        body = server.requests[0].body
    text, image = body["messages"][0]["content"]
    assert (body["system"], body["max_tokens"], text["text"]) == ("Be brief.", 9, long)
    assert image["source"]["media_type"] == "image/png"
    assert [each["role"] for each in body["messages"]] == ["user"]


@pytest.mark.promise("N5", "S4-31", "S4-32")
@pytest.mark.wire
def test_no_key_is_in_logs_errors_or_the_environment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "agentkit")
    before = dict(os.environ)
    with (
        WireServer() as server,
        configured(tmp_path, anthropic(server, f"[{SECRET}]")) as llm,
    ):
        server.script(faults.status(503), "an answer", faults.status(401, message=SECRET[:4]))
        client = llm.get_client()
        asyncio.run(client.chat(CANARY))
        with pytest.raises(LLMAuthenticationError) as caught:
            asyncio.run(client.chat(CANARY))
        assert {key_of(each) for each in server.requests} == {SECRET}
        shown = [repr(llm), repr(client), str(llm.get_status()), caplog.text, repr(caught.value)]
        shown += [str(vars(record)) for record in caplog.records]
        pool = ConnectionPool([SECRET])
        for each in (pool, llm):
            with pytest.raises(TypeError):
                pickle.dumps(each)
    shown += traceback.format_exception(caught.value)
    assert len(caplog.records) >= 3
    assert SECRET not in "".join(shown) + repr(pool)
    assert CANARY not in caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert dict(os.environ) == before


@pytest.mark.promise("N11")
@pytest.mark.wire
def test_a_typed_answer_takes_the_same_path_as_any_other(tmp_path: Path) -> None:
    """Retry, limits, metrics and each key's own model; the system prompt in its own place."""
    metrics = MetricsMiddleware()
    models = "models: [one, two]\nrate_limits: {requests_per_minute: 50}"
    with (
        WireServer(reply='{"name": "Paris"}') as server,
        configured(tmp_path, anthropic(server, "[k1, k2]", models), middleware=[metrics]) as llm,
    ):
        server.script(faults.status(503))
        client = llm.get_client(LLMProvider.ANTHROPIC)
        messages = [Message("system", "Be brief."), Message("user", "Which city?")]
        for _ in range(2):
            city = asyncio.run(client.complete(messages, response_model=City))
            assert city == City(name="Paris")
        asked = [(key_of(each), each.model) for each in server.requests]
        assert set(asked) == {("k1", "one"), ("k2", "two")}
        for each in server.requests:
            assert each.body["system"].startswith("Be brief.")
            assert [message["role"] for message in each.body["messages"]] == ["user"]
        used = [each["used"] for each in llm.get_status()["pools"]["anthropic"]["clients"]]
    assert (metrics.metrics["total_requests"], metrics.metrics["failed_requests"]) == (3, 1)
    assert sum(each["requests_per_minute"] for each in used) == 3


def test_sync_code_gets_a_manager_of_its_own_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "llm.yaml"
    with WireServer(reply="Paris.") as server:
        file.write_text(anthropic(server, more="models: some-model\n") + "deadline: 7\n")
        with (
            LLMManager.from_config(file, max_retries=1) as llm,
            LLMManager.from_config(load_settings(file)) as other,
        ):
            assert llm is not other
            assert (llm.generate("capital?"), llm.list_models()) == ("Paris.", ["anthropic"])
            assert llm.get_status()["response_cache"] is None
    with pytest.raises(ConfigurationError, match="cannot be read"):
        LLMManager.from_config(tmp_path / "missing.yaml")


@pytest.mark.wire
@pytest.mark.parametrize(
    ("file", "own", "variable", "expected"),
    [
        (None, None, None, "sdk"),
        ("native", None, None, "native"),
        ("native", "sdk", None, "sdk"),
        (None, "native", "sdk", "native"),
        (None, None, "native", "native"),
        ("sdk", None, "native", "native"),
    ],
)
def test_the_transport_of_a_provider_wins_over_that_of_the_file(
    file: str | None,
    own: str | None,
    variable: str | None,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable is not None:
        monkeypatch.setenv("AGENTKIT_TRANSPORT", variable)
    with WireServer(reply="Paris.") as server:
        text = anthropic(server, more="" if own is None else f"transport: {own}")
        text += "" if file is None else f"transport: {file}\n"
        path = tmp_path / "llm.yaml"
        path.write_text(text, "utf-8")
        with LLMManager.from_config(load_settings(path)) as llm:
            assert llm.generate("capital?") == "Paris."
        native = server.requests[0].headers["user-agent"] == "agentkit"
    assert native == (expected == "native")


def test_bedrock_has_the_transport_of_the_file_as_well(tmp_path: Path) -> None:
    text = "transport: native\nproviders:\n  bedrock:\n    models: m@eu-central-1\n"
    path = tmp_path / "llm.yaml"
    path.write_text(text, "utf-8")
    assert load_settings(path, {}).providers["bedrock"].transport == "native"
    path.write_text(f"{text}    transport: sdk\n", "utf-8")
    assert load_settings(path, {}).providers["bedrock"].transport == "sdk"


def test_the_connections_of_a_provider_win_over_those_of_the_file(tmp_path: Path) -> None:
    text = (
        "transport: native\n"
        "connections: {connect_timeout: 2, max_keepalive_connections: 7}\n"
        "providers:\n"
        "  own: {base_url: http://localhost:1, models: m, connections: {keepalive_expiry: 9}}\n"
        "  file: {base_url: http://localhost:1, models: m}\n"
        "  sdk: {base_url: http://localhost:1, models: m, transport: sdk}\n"
    )
    path = tmp_path / "llm.yaml"
    path.write_text(text, "utf-8")
    providers = load_settings(path, {"AGENTKIT_CONNECTIONS__CONNECT_TIMEOUT": "3"}).providers
    own, file = providers["own"].connections, providers["file"].connections
    assert own is not None
    assert file is not None
    assert (own.keepalive_expiry, own.connect_timeout) == (9, 5)
    assert (file.max_keepalive_connections, file.connect_timeout) == (7, 3)
    assert providers["sdk"].connections is None


def test_connections_of_a_provider_that_uses_an_sdk_are_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "llm.yaml"
    path.write_text(
        "providers:\n"
        "  local:\n"
        "    models: m\n"
        "    connections: {connect_timeout: 2, max_connections: 5}\n",
        "utf-8",
    )
    with pytest.raises(ConfigurationError, match="max_connections"):
        load_settings(path, {})
    path.write_text(path.read_text("utf-8").replace(", max_connections: 5", ""), "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, {})
    assert "connections: they are for the native transport" in str(caught.value)
    assert "add `transport: native`" in str(caught.value)


@pytest.mark.wire
def test_the_connections_of_a_file_reach_its_provider(tmp_path: Path) -> None:
    more = "transport: native\nconnections: {max_keepalive_connections: 2}"
    with (
        WireServer(reply="Paris.") as server,
        configured(tmp_path, anthropic(server, more=more)) as llm,
    ):
        assert llm.warm_up(connections=5) == {}
        until(lambda: server.connections == 2)
