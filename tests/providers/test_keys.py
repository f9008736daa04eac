"""Keys: from the environment when they are needed, never shown, refused when they cannot travel."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import ConfigurationError, ConnectionPool, LLMManager
from agentkit.providers.registry import PROVIDERS, provider_for
from agentkit.providers.requirements import check_key
from agentkit.testing import WireServer, faults
from agentkit.types import Request
from tests.providers.contract import PROVIDERS as PROVIDER_CASES

KEY = "sk-made-up-0123456789"
ASKED = Request(prompt="capital?")
WITH_KEY = {name: each.key_variables for name, each in PROVIDERS.items() if each.key_variables}
WITHOUT_KEY = [name for name in PROVIDERS if name not in {*WITH_KEY, "bedrock"}]


def base_url(name: str, server: WireServer) -> str:
    """Where a provider's adapter finds the server."""
    return server.url if name in ("anthropic", "google", "groq") else server.openai_url


def key_sent(adapter: Any, server: WireServer) -> str:
    """The key that the server receives from `adapter`."""
    adapter.send(ASKED)
    adapter.close()
    headers = server.requests[-1].headers
    for name in ("x-api-key", "x-goog-api-key"):
        if name in headers:
            return headers[name]
    return headers["authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("name", WITH_KEY)
@pytest.mark.parametrize("value", [None, "", "  "], ids=["unset", "empty", "blank"])
def test_without_a_key_the_first_call_names_the_variable(
    name: str, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = provider_for(f"{name}:some-model")
    for variable in WITH_KEY[name]:
        if value is not None:
            monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        adapter.send(ASKED)
    assert all(variable in str(caught.value) for variable in WITH_KEY[name])


@pytest.mark.parametrize(
    ("name", "variable"), [(name, each) for name, all_ in WITH_KEY.items() for each in all_]
)
def test_the_key_is_read_from_the_environment_when_it_is_needed(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WireServer() as server:
        adapter = provider_for(f"{name}:some-model", base_url=base_url(name, server))
        monkeypatch.setenv(variable, f" {KEY}\n")
        assert key_sent(adapter, server) == KEY


def test_the_first_variable_that_is_not_empty_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "")
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    with WireServer() as server:
        adapter = provider_for("google:gemini", base_url=server.google_url)
        assert key_sent(adapter, server) == KEY


@pytest.mark.parametrize("name", WITH_KEY)
@pytest.mark.parametrize("key", [f"{KEY}\nX-Evil: 1", f"{KEY} {KEY}", f"{KEY}é", f"\x00{KEY}"])
def test_a_key_that_cannot_be_sent_is_rejected_without_being_shown(name: str, key: str) -> None:
    adapter = provider_for(f"{name}:some-model", api_key=key, base_url="http://127.0.0.1:9")
    with LLMManager(enable_caching=False, max_retries=1) as llm:
        llm.register_model("only", adapter)
        with pytest.raises(ConfigurationError) as caught:
            llm.generate("capital?")
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", [name for name in PROVIDERS if name != "bedrock"])
def test_an_adapter_shows_no_key_and_another_key_makes_another_adapter(name: str) -> None:
    with WireServer() as server:
        url = base_url(name, server)
        adapter = provider_for(f"{name}:some-model", api_key=KEY, base_url=url, temperature=0)
        assert KEY not in f"{adapter!r} {adapter!s}"
        other = adapter.with_key("sk-other")
        assert type(other) is type(adapter)
        assert (key_sent(other, server), key_sent(adapter, server)) == ("sk-other", KEY)
    assert (other.model, other.settings, other.base_url) == ("some-model", {"temperature": 0}, url)


@pytest.mark.wire
@pytest.mark.parametrize(
    ("name", "empty"),
    [
        ("openai", faults.status(400, kind="billing_hard_limit_reached")),
        ("openai", faults.status(429, kind="insufficient_quota")),
        ("anthropic", PROVIDER_CASES["anthropic"].without_credit),
    ],
)
def test_after_a_key_without_credit_the_next_key_is_used(name: str, empty: faults.Status) -> None:
    with WireServer(reply="Paris.") as server:
        server.script(empty)
        adapter = provider_for(f"{name}:some-model", base_url=base_url(name, server))
        with LLMManager(enable_caching=False) as llm:
            pool = ConnectionPool(["key-1", "key-2"])
            llm.register_model("only", adapter, pool=pool)
            assert [llm.generate("capital?") for _ in range(2)] == ["Paris."] * 2
        keys = [str(dict(each.headers)) for each in server.requests]
    used = [next(key for key in ("key-1", "key-2") if key in headers) for headers in keys]
    assert used == ["key-1", "key-2", "key-2"]


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1))
def test_a_key_may_contain_any_visible_ascii_character(key: str) -> None:
    assert check_key(key, "openai") == key


@pytest.mark.parametrize("name", WITHOUT_KEY)
def test_a_server_without_keys_gets_a_placeholder(name: str) -> None:
    with WireServer() as server:
        adapter = provider_for(f"{name}:m", base_url=base_url(name, server))
        assert key_sent(adapter, server) == "none"
