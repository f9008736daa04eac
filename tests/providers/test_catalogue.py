"""Providers by name: found lazily, with their key, or refused with the remedy."""

from __future__ import annotations

import subprocess
import sys
import traceback
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import ConfigurationError, LLMManager, MissingDependencyError
from agentkit.providers import catalogue
from agentkit.providers.catalogue import (
    BUILTINS,
    checked_key,
    checked_url,
    installed,
    known_providers,
    provider_for,
)
from agentkit.types import Request

KEY = "sk-made-up-0123456789"
ASKED = Request(prompt="capital?")
WITH_KEY = {name: each.key_variables for name, each in BUILTINS.items() if each.key_variables}
WITHOUT_KEY = {
    "ollama": 11434, "vllm": 8000, "llamacpp": 8080, "lmstudio": 1234, "local": 11434,
}  # fmt: skip


class Own:
    """A provider that someone else wrote."""

    def __init__(self, model: str, **settings: Any) -> None:
        self.model = model
        self.settings = settings


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(group: str) -> list[EntryPoint]:
        assert group == "agentkit.providers"
        where = f"{__name__}:Own"
        return [EntryPoint("mine", where, group), EntryPoint("openai", where, group)]

    monkeypatch.setattr(catalogue, "entry_points", found)


@pytest.mark.parametrize("name", BUILTINS)
def test_every_provider_of_ours_is_there_under_its_name(name: str) -> None:
    adapter = provider_for(f"{name}:some-model", api_key=KEY, base_url="http://localhost:1/v1")
    assert adapter.model == "some-model"
    assert type(adapter).__name__ == BUILTINS[name].factory
    assert adapter.end_mark
    assert adapter.timed
    assert "messages" in adapter.capabilities
    adapter.close()


def test_names_are_found_whatever_their_case_and_models_keep_theirs() -> None:
    adapter = provider_for(" OpenAI :ft:gpt-X:Org::7", api_key=KEY)
    assert (adapter.provider, adapter.model) == ("openai", "ft:gpt-X:Org::7")


@pytest.mark.parametrize(("name", "port"), WITHOUT_KEY.items())
def test_a_local_server_needs_neither_key_nor_address(name: str, port: int) -> None:
    adapter = provider_for(f"{name}:llama")
    client = adapter._clients.sync()
    assert (client.base_url.host, client.base_url.port) == ("localhost", port)
    assert client.api_key == "none"
    adapter.close()


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
    adapter = provider_for(f"{name}:some-model")
    monkeypatch.setenv(variable, f" {KEY}\n")
    assert adapter._key() == KEY


def test_the_first_variable_that_holds_something_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "")
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    assert provider_for("google:gemini")._key() == KEY


@pytest.mark.parametrize("key", ["", "  ", "\n"])
def test_an_empty_key_is_refused_at_once(key: str) -> None:
    with pytest.raises(ConfigurationError, match="key"):
        provider_for("openai:gpt", api_key=key)


@pytest.mark.parametrize("name", WITH_KEY)
@pytest.mark.parametrize("key", [f"{KEY}\nX-Evil: 1", f"{KEY} {KEY}", f"{KEY}é", f"\x00{KEY}"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(name: str, key: str) -> None:
    adapter = provider_for(f"{name}:some-model", api_key=key, base_url="http://127.0.0.1:9")
    with LLMManager(enable_caching=False, max_retries=1) as llm:
        llm.register_model("only", adapter)
        with pytest.raises(ConfigurationError) as caught:
            llm.generate("capital?")
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", BUILTINS)
def test_an_adapter_shows_no_key_and_another_key_makes_another_adapter(name: str) -> None:
    adapter = provider_for(
        f"{name}:some-model", api_key=KEY, base_url="http://localhost:1/v1", temperature=0
    )
    assert KEY not in f"{adapter!r} {adapter!s}"
    other = adapter.with_key("sk-other")
    assert type(other) is type(adapter)
    assert (other.model, other._key(), adapter._key()) == ("some-model", "sk-other", KEY)
    assert other._settings == adapter._settings
    assert other._base_url == adapter._base_url


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("opnai:gpt", "openai"), ("antropic:claude", "anthropic"), ("Grok:x", "groq")],
)
def test_an_unknown_provider_gets_a_suggestion(spec: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"did you mean '{hint}:"):
        provider_for(spec)


def test_a_provider_like_no_other_gets_the_list() -> None:
    with pytest.raises(ConfigurationError) as caught:
        provider_for("zzzzz:model")
    assert all(name in str(caught.value) for name in BUILTINS)


@pytest.mark.parametrize("spec", ["openai", "openai:", "openai:  ", "anthropic"])
def test_a_spec_without_a_model_is_refused(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="names no model"):
        provider_for(spec, api_key=KEY)


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host", "http://", "http://host:port", "file:///etc/passwd",
            "https://[::1", "//host/v1"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["openai", "anthropic", "compatible", "vllm"])
def test_an_address_that_is_none_is_refused(name: str, url: str) -> None:
    with pytest.raises(ConfigurationError):
        provider_for(f"{name}:m", api_key=KEY, base_url=url)


def test_a_compatible_server_needs_an_address() -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        provider_for("compatible:m")


@pytest.mark.parametrize("url", ["http://host", "https://host:8443/v1", "http://[::1]:80/v1"])
def test_an_address_loses_only_the_slash_at_its_end(url: str) -> None:
    assert checked_url(url) == checked_url(f"{url}/") == url


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1))
def test_what_fits_into_a_header_is_a_key(key: str) -> None:
    assert checked_key(key, "openai") == key


def test_entry_points_are_found_by_name_and_never_hide_ours(foreign: None) -> None:
    adapter = provider_for(
        "mine:some-model", api_key=KEY, base_url="http://localhost/v1", temperature=0
    )
    assert isinstance(adapter, Own)
    assert adapter.model == "some-model"
    expected = {"api_key": KEY, "base_url": "http://localhost/v1", "temperature": 0}
    assert adapter.settings == expected
    assert type(provider_for("openai:gpt")).__name__ == "OpenAIChat"
    assert known_providers() == [*BUILTINS, "mine"]


def test_an_entry_point_gets_only_what_was_given(foreign: None) -> None:
    assert provider_for("mine:some-model").settings == {}


@pytest.mark.parametrize("name", BUILTINS)
def test_a_missing_sdk_names_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "find_spec", lambda sdk: None)
    with pytest.raises(MissingDependencyError) as caught:
        provider_for(f"{name}:m", api_key=KEY)
    assert f"pip install 'agentkit-llms[{BUILTINS[name].extra}]'" in str(caught.value)


def test_what_is_installed_is_known_without_importing_it() -> None:
    assert installed("openai")
    assert not installed("no_such_package_at_all")
    assert not installed("no_such_package.at_all")


def test_making_every_adapter_imports_no_sdk() -> None:
    """In a fresh interpreter: an SDK costs half a second, which only a call should pay."""
    program = (
        "import sys\n"
        "from agentkit.providers.catalogue import BUILTINS, provider_for\n"
        "for name in BUILTINS: provider_for(name + ':m', base_url='http://localhost/v1')\n"
        "print({'openai', 'anthropic', 'groq', 'google.genai', 'httpx', 'httpx2'}"
        " & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
