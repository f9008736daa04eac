"""What the environment holds for one provider never reaches another."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import ConfigurationError
from agentkit.providers.compatible import Compatible, Local, Ollama
from agentkit.providers.registry import provider_for
from agentkit.testing import WireServer
from agentkit.types import Request

OPENAIS = {
    "OPENAI_API_KEY": "sk-of-openai",
    "OPENAI_ADMIN_KEY": "sk-admin-of-openai",
    "OPENAI_ORG_ID": "org-of-openai",
    "OPENAI_PROJECT_ID": "project-of-openai",
    "OPENAI_CUSTOM_HEADERS": "X-Gateway: of-openai\nAuthorization: Bearer sk-gateway-of-openai",
}
ASKED = Request(prompt="capital?")


def headers_sent(adapter: Any, server: WireServer) -> dict[str, str]:
    adapter.send(ASKED)
    adapter.close()
    return dict(server.requests[-1].headers)


@pytest.mark.wire
@pytest.mark.parametrize("name", ["compatible", "ollama", "vllm", "llamacpp", "lmstudio", "local"])
@pytest.mark.parametrize("key", [None, "key-of-the-server"])
def test_openais_variables_are_not_sent_to_other_servers(
    name: str, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in OPENAIS.items():
        monkeypatch.setenv(variable, value)
    with WireServer() as server:
        adapter = provider_for(f"{name}:m", api_key=key, base_url=server.openai_url)
        sent = headers_sent(adapter, server)
    assert "of-openai" not in str(sent)
    assert sent["authorization"] == f"Bearer {key or 'none'}"


@pytest.mark.wire
def test_openai_gets_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side of the same: the SDK's variables keep working where they belong."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-openai")
    with WireServer() as server:
        adapter = provider_for("openai:m", api_key="k", base_url=server.openai_url)
        assert headers_sent(adapter, server)["openai-organization"] == "org-of-openai"


@pytest.mark.parametrize(
    ("variable", "made", "expected"),
    [
        ("OPENAI_BASE_URL", Compatible, "http://gateway.example:1/v1"),
        ("LOCAL_BASE_URL", Local, "http://gateway.example:1/v1"),
        ("OPENAI_BASE_URL", Ollama, "http://localhost:11434/v1"),
        ("OPENAI_BASE_URL", Local, "http://localhost:11434/v1"),
    ],
)
def test_the_address_comes_from_the_right_variable(
    variable: str, made: type[Compatible], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://gateway.example:1/v1/")
    assert made("m").base_url == expected
    assert made("m", base_url="http://other:2").base_url == "http://other:2"


def test_an_invalid_address_in_the_environment_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_BASE_URL", "localhost:11434")
    with pytest.raises(ConfigurationError, match="http"):
        Local("m")
