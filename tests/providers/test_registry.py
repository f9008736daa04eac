"""Providers by name: ours, those of others, and everything that can be wrong with a name."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

from agentkit import ConnectionPool, LLMManager
from agentkit.errors import ConfigurationError, MissingDependencyError
from agentkit.providers import registry, requirements
from agentkit.providers.registry import PROVIDERS as KNOWN
from agentkit.providers.registry import provider_for, provider_names
from agentkit.testing import WireServer
from tests.providers.contract import PROVIDERS


class Parrot:
    """A provider in ten lines, as a package of its own would bring it."""

    provider = "parrot"
    end_mark = False

    def __init__(self, model: str, **settings: Any) -> None:
        self.model, self.settings = model, settings

    def send(self, request: Any) -> str:
        return f"{self.model}: {request.text}"


@pytest.fixture
def _parrot_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("parrot", "parrot_package:Parrot", registry.ENTRY_POINT_GROUP)
    package: Any = ModuleType("parrot_package")
    package.Parrot = Parrot
    monkeypatch.setitem(sys.modules, "parrot_package", package)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])


@pytest.mark.promise("S4-09")
@pytest.mark.usefixtures("_parrot_installed")
def test_a_provider_of_another_package_is_found_by_its_entry_point() -> None:
    assert provider_names()[-1] == "parrot"
    made = provider_for("parrot:grey", api_key=" k ", base_url="http://h/v1", volume=3)
    assert (made.model, made.settings) == (
        "grey",
        {"api_key": "k", "base_url": "http://h/v1", "volume": 3},
    )
    with LLMManager(enable_caching=False) as llm:
        llm.register_model("bird", "parrot:grey")
        assert llm.generate("hello") == "grey: hello"


@pytest.mark.wire
@pytest.mark.parametrize("name", PROVIDERS)
def test_a_model_is_registered_by_its_name_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key comes from the environment, and is read when it is first needed."""
    with WireServer(reply="Paris.") as server:
        adapter = PROVIDERS[name].make(server)
        with LLMManager(enable_caching=False) as llm:
            llm.register_model("model", adapter)
            assert llm.generate("capital?") == "Paris."
        adapter.close()
        for variable in KNOWN[name].key_variables[:1]:
            monkeypatch.setenv(variable, "key-of-the-environment")
            by_name = provider_for(f"{name}:m", base_url=PROVIDERS[name].url(server))
            with LLMManager(enable_caching=False) as llm:
                llm.register_model("model", by_name)
                llm.generate("capital?")
            by_name.close()
            assert "key-of-the-environment" in str(dict(server.requests[-1].headers))


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("opnai:gpt", "did you mean 'openai:…'?"),
        ("antropic:claude", "did you mean 'anthropic:…'?"),
        ("weather:tomorrow", "known providers: openai, "),
        (":gpt", "known providers"),
        ("", "known providers"),
    ],
)
def test_an_unknown_provider_is_answered_with_a_suggestion(spec: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        provider_for(spec)
    assert hint in str(caught.value)


@pytest.mark.parametrize("spec", ["openai", "openai:", "openai:  "])
def test_a_provider_without_a_model_is_rejected(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="does not name a model"):
        provider_for(spec, api_key="any")


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:80", "ftp://host", "http://", "http://host:port", "http://[::1", "//h"),
        *("http://host/v1\r\nX: y", "http://ho st/v1", "http://ann:made-up-password@host:port"),
    ],
)
def test_an_invalid_base_url_is_rejected(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not a valid URL") as caught:
        provider_for("openai:m", api_key="any", base_url=url)
    assert "password" not in str(caught.value)


def test_a_base_url_with_a_query_is_rejected() -> None:
    """The SDKs write the path after it, and the native transport would leave it out."""
    with pytest.raises(ConfigurationError, match="has a query") as caught:
        provider_for("openai:m", api_key="any", base_url="http://ann:pass@host/v1?api-version=1")
    assert "pass@" not in str(caught.value)


def test_white_space_around_a_base_url_is_left_out() -> None:
    adapter: Any = provider_for("openai:m", api_key="any", base_url=" http://host/v1/\n")
    assert adapter.base_url == "http://host/v1"


def test_the_origin_of_a_state_has_no_password() -> None:
    adapter: Any = provider_for("openai:m", api_key="any", base_url="http://ann:pass@host:8/v1")
    assert adapter.states.origin == "openai:m@host:8"


@pytest.mark.parametrize("key", ["", "  ", "\n"])
def test_an_empty_key_is_rejected_immediately(key: str) -> None:
    with pytest.raises(ConfigurationError, match="API key for openai is empty"):
        provider_for("openai:m", api_key=key)


@pytest.mark.parametrize("name", KNOWN)
def test_a_missing_sdk_names_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "is_installed", lambda sdk: False)
    with pytest.raises(MissingDependencyError) as caught:
        provider_for(f"{name}:m", api_key="any", base_url="http://host")
    assert f'pip install "agentkit-llms[{KNOWN[name].extra}]"' in str(caught.value)


@pytest.mark.parametrize(("name", "named"), [("openai", True), ("bedrock", False)])
def test_a_missing_sdk_names_the_native_transport_where_that_is_enough(
    name: str, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "is_installed", lambda sdk: sdk != KNOWN[name].sdk)
    with pytest.raises(MissingDependencyError) as caught:
        provider_for(f"{name}:m")
    assert ("transport='native'" in str(caught.value)) is named


@pytest.mark.processes
@pytest.mark.parametrize("name", ["openai", "openai-responses", "groq", "anthropic", "google"])
def test_preparing_an_adapter_loads_its_sdk(name: str) -> None:
    """All of it: SDKs import their resources and their HTTP client when they first need them."""
    sdk = KNOWN[name].sdk
    program = f"""
import contextlib, sys
from agentkit import Request, provider_for
model = provider_for('{name}:m', api_key='k', base_url='http://127.0.0.1:9')
model.prepare()
assert '{sdk}' in sys.modules
before = set(sys.modules)
with contextlib.suppress(Exception):
    model.send(Request(prompt='x'))
late = [each for each in set(sys.modules) - before if each.startswith(('{sdk}', 'http'))]
assert not late, late
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.processes
def test_preparing_a_bedrock_model_loads_its_sdk_and_looks_for_no_credentials() -> None:
    program = (
        "import sys; from agentkit.providers.registry import provider_for;"
        "model = provider_for('bedrock:Claude 3 Haiku@us-east-1');"
        "assert 'boto3' not in sys.modules;"
        "model.prepare();"
        "assert 'boto3' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.processes
def test_naming_a_provider_loads_no_sdk() -> None:
    program = (
        "import sys; from agentkit.providers.registry import provider_for;"
        "made = [provider_for(f'{n}:m', api_key='k') for n in ('openai', 'groq', 'anthropic')];"
        "made.append(provider_for('openai-responses:m', api_key='k'));"
        "assert not {'openai', 'groq', 'anthropic', 'httpx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.wire
def test_a_registration_chooses_its_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting wins over the variable, and the variable over the default."""
    monkeypatch.setenv("OPENAI_API_KEY", "made-up")
    with WireServer() as server, LLMManager(enable_caching=False) as llm:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        llm.register_model("default", "openai:m")
        llm.register_model("own", "openai:m", transport="native")
        pool = ConnectionPool(["k1"], [1])
        llm.register_model("keyed", "openai:m", transport="native", pool=pool)
        monkeypatch.setenv("AGENTKIT_TRANSPORT", "native")
        llm.register_model("variable", "openai:m")
        llm.register_model("back", "openai:m", transport="sdk")
        names = ["default", "own", "keyed", "variable", "back"]
        native = []
        for name in names:
            llm.set_active_model(name)
            llm.generate("capital?")
            native.append(server.requests[-1].headers["user-agent"] == "agentkit")
    assert native == [False, True, True, True, False]


def test_a_transport_is_not_for_objects() -> None:
    with LLMManager() as llm, pytest.raises(ConfigurationError, match="registered by a string"):
        llm.register_model("m", lambda prompt, kwargs: "x", transport="native")


@pytest.mark.parametrize("transport", ["pigeon", ""])
def test_an_unknown_transport_is_rejected(transport: str) -> None:
    if transport:
        with pytest.raises(ConfigurationError, match="pigeon"):
            provider_for("openai:m", api_key="k", transport=transport)  # type: ignore[arg-type]
    assert provider_for("openai:m", api_key="k").transport == "sdk"


def test_bedrock_follows_the_argument_and_then_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = "bedrock:eu.anthropic.claude-sonnet-4-5-20250929-v1:0@eu-central-1"
    assert provider_for(spec).transport == "sdk"
    assert provider_for(spec, transport="native").transport == "native"
    monkeypatch.setenv("AGENTKIT_TRANSPORT", "native")
    assert provider_for(spec).transport == "native"
    assert provider_for(spec, transport="sdk").transport == "sdk"


@pytest.mark.parametrize("missing", ["httptools", "boto3"])
def test_bedrock_over_the_native_transport_needs_both(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingDependencyError, match=missing):
        provider_for("bedrock:Claude 3 Haiku@us-east-1", transport="native")


def test_the_native_transport_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "httptools", None)
    with pytest.raises(MissingDependencyError) as caught:
        provider_for("openai:m", api_key="k", transport="native")
    assert "agentkit-llms[native]" in str(caught.value)
