"""Servers that speak OpenAI's chat completions, and Groq."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.errors import ConfigurationError
from agentkit.providers.compatible import Compatible
from agentkit.providers.groq import Groq
from agentkit.providers.registry import provider_for
from agentkit.testing import WireServer
from tests.providers.asking import CONVERSATION, DATA_URL, asking, either_way, sent_body
from tests.providers.canned import canned

PRESETS = {
    "ollama": "http://localhost:11434/v1",
    "vllm": "http://localhost:8000/v1",
    "llamacpp": "http://localhost:8080/v1",
    "lmstudio": "http://localhost:1234/v1",
    "local": "http://localhost:11434/v1",
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_its_default_address_and_needs_no_key(name: str) -> None:
    adapter = provider_for(f"{name}:llama3")
    assert adapter.base_url == PRESETS[name]
    assert adapter.provider == name
    adapter.close()


@pytest.mark.wire
@pytest.mark.parametrize("name", [*PRESETS, "compatible"])
def test_a_preset_can_have_another_address(name: str) -> None:
    with WireServer(reply="hello") as server:
        adapter = provider_for(f"{name}:llama3", base_url=server.openai_url)
        with asking(adapter) as asker:
            assert asker.ask("sync", max_tokens=5).text == "hello"
        body = server.requests[0].body
    assert (body["model"], body["max_tokens"]) == ("llama3", 5), "its own name for the limit"


@pytest.mark.wire
def test_a_key_is_sent_if_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "for-openai-alone")
    with WireServer() as server:
        for key in (None, "own-key"):
            with asking(Compatible("m", api_key=key, base_url=server.openai_url)) as asker:
                asker.ask("sync")
        sent = [each.headers["authorization"] for each in server.requests]
    assert sent == ["Bearer none", "Bearer own-key"]


def test_the_address_comes_from_the_environment_or_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        Compatible("m")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gateway.example/v1/")
    monkeypatch.setenv("LOCAL_BASE_URL", "http://local.example/v1")
    found = [provider_for(f"{name}:m") for name in ("compatible", "local")]
    assert [each.base_url for each in found] == [
        "http://gateway.example/v1",
        "http://local.example/v1",
    ]


@pytest.mark.wire
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@either_way
def test_the_reasoning_of_a_server_is_separate_from_the_text(way: str, field: str) -> None:
    message = {"role": "assistant", "content": "Paris.", field: "France, so"}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    with canned() as server:
        server.json({"id": "x", "choices": [{**choice, "message": message}]})
        if way == "astream":
            reasoning, content = {field: "France, so"}, {"content": "Paris."}
            server.events(
                {"choices": [{"index": 0, "delta": reasoning}]},
                {"choices": [{**choice, "delta": content}]},
            )
        with asking(Compatible("m", base_url=server.url)) as asker:
            reply = asker.ask(way)
    assert (reply.text, reply.reasoning) == ("Paris.", "France, so")


@pytest.mark.wire
def test_groq_is_sent_the_same_conversation_through_its_own_sdk() -> None:
    with WireServer() as server:
        adapter = Groq("llama", api_key="any", base_url=server.groq_url)
        body = sent_body(adapter, server, CONVERSATION, max_tokens=9)
        (request,) = server.requests
    assert request.path == "/openai/v1/chat/completions"
    assert "groq" in request.headers["user-agent"].lower()
    assert body["max_completion_tokens"] == 9
    roles = [each["role"] for each in body["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "user"]
    assert body["messages"][1]["content"][1]["image_url"]["url"] == DATA_URL


@pytest.mark.wire
def test_groqs_daily_request_limit_is_not_a_limit_per_minute() -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "Paris."}}
    with canned() as server:
        server.headers = {
            "x-ratelimit-limit-requests": "14400",
            "x-ratelimit-limit-tokens": "6000",
        }
        server.json({"id": "x", "choices": [choice]})
        with asking(Groq("m", api_key="any", base_url=server.url)) as asker:
            quota = asker.ask("sync").quota
    assert quota is not None
    assert (quota.requests_per_minute, quota.tokens_per_minute) == (None, 6000)
