"""The SDKs' own options and variables mean the same to the native transport."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

import pytest

from agentkit import ConfigurationError, InvalidRequestError
from agentkit.providers.registry import provider_for
from agentkit.providers.requirements import TransportName
from agentkit.testing import RecordedRequest, WireServer, faults
from agentkit.types import Request
from tests.providers.contract import PROVIDERS

pytestmark = pytest.mark.wire
every_provider = pytest.mark.parametrize("provider", PROVIDERS)
both_transports = pytest.mark.parametrize("transport", ["sdk", "native"])


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as opened:
        yield opened


def sent(server: WireServer, adapter: Any, **params: Any) -> RecordedRequest:
    """What `server` received."""
    adapter.send(Request(prompt="q", params=params))
    adapter.close()
    return server.requests[-1]


@every_provider
@both_transports
def test_the_options_of_a_call(provider: str, transport: str, server: WireServer) -> None:
    """Google's SDK has ``extra_body`` only; the others are left out for it."""
    made_up = {"snake_case": 1}
    request = sent(
        server,
        PROVIDERS[provider].make(server, transport=transport),
        extra_headers={"X-A": "b", "user-agent": "mine"},
        extra_query={"q": "1", "debug": True, "unset": None, "deep": {"a b": 2.5}},
        extra_body={"made_up": made_up},
        timeout=7,
    )
    assert request.body["made_up"] == made_up
    assert not {"extra_body", "extraBody", "extra_headers", "extra_query", "timeout"} & set(
        request.body
    )
    if provider != "google":
        query = parse_qsl(request.path.partition("?")[2], keep_blank_values=True)
        assert query == [("q", "1"), ("debug", "true"), ("deep[a b]", "2.5")]
        assert (request.headers["x-a"], request.headers["user-agent"]) == ("b", "mine")


@both_transports
@pytest.mark.parametrize("provider", ["openai", "openai-responses", "anthropic", "compatible"])
def test_a_list_in_the_query(provider: str, transport: str, server: WireServer) -> None:
    """Groq's SDK joins it with commas."""
    adapter = PROVIDERS[provider].make(server, transport=transport)
    request = sent(server, adapter, extra_query={"tag": ["a", 2]})
    assert request.path.endswith("?tag%5B%5D=a&tag%5B%5D=2")


@both_transports
@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("tunedModels/mine", "/v1/tunedModels/mine:generateContent"),
        ("models/m", "/v1/models/m:generateContent"),
    ],
)
def test_models_of_google(
    transport: TransportName, model: str, path: str, server: WireServer
) -> None:
    adapter = provider_for(
        f"google:{model}", api_key="k", base_url=server.google_url, transport=transport
    )
    assert sent(server, adapter).path == path


@both_transports
def test_user_and_password_of_the_address(transport: str, server: WireServer) -> None:
    """They replace the key, as a server that asks for them takes no other ``Authorization``."""
    adapter = PROVIDERS["openai"].make(
        server,
        transport=transport,
        base_url=server.openai_url.replace("://", "://ann:p%40ss@"),
    )
    assert sent(server, adapter).headers["authorization"] == "Basic YW5uOnBAc3M="


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 70}.test"])
def test_a_host_that_no_name_server_can_be_asked_for(host: str) -> None:
    adapter: Any = provider_for(
        "openai:m", api_key="k", base_url=f"http://{host}/v1", transport="native"
    )
    with pytest.raises(ConfigurationError, match="base_url has an invalid host"):
        adapter.send(Request(prompt="q"))


def test_the_time_limit_of_a_call(server: WireServer) -> None:
    server.always(faults.silence())
    adapter = PROVIDERS["openai"].make(server, transport="native")
    with pytest.raises(TimeoutError):
        adapter.send(Request(prompt="q", params={"timeout": 0.05}))
    adapter.close()


@every_provider
def test_both_transports_authenticate_alike(provider: str, server: WireServer) -> None:
    names = ("authorization", "x-goog-api-key", "x-api-key", "anthropic-version", "content-type")
    seen = []
    for transport in ("sdk", "native"):
        request = sent(server, PROVIDERS[provider].make(server, transport=transport))
        headers = {name: request.headers.get(name) for name in names}
        seen.append((request.path, headers))
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("variable", "options", "path"),
    [
        (None, None, "/v1/models/m:generateContent"),
        ("v1alpha", None, "/v1alpha/models/m:generateContent"),
        ("beta", None, "/v1beta/models/m:generateContent"),
        ("v1alpha", {"api_version": "v1beta"}, "/v1beta/models/m:generateContent"),
    ],
)
@both_transports
def test_the_version_of_googles_api(
    transport: Any,
    variable: str | None,
    options: dict[str, str] | None,
    path: str,
    server: WireServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable is not None:
        monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", variable)
    adapter = provider_for("google:m", api_key="k", base_url=server.google_url, transport=transport)
    given = {} if options is None else {"http_options": options}
    assert sent(server, adapter, **given).path == path


@both_transports
@pytest.mark.parametrize(
    ("provider", "prefix", "url"),
    [
        ("openai", "OPENAI", "openai_url"),
        ("openai-responses", "OPENAI", "openai_url"),
        ("groq", "GROQ", "groq_url"),
        ("anthropic", "ANTHROPIC", "anthropic_url"),
        ("google", "GOOGLE_GEMINI", "google_url"),
    ],
)
def test_the_address_and_the_headers_in_the_environment(
    provider: str,
    prefix: str,
    url: str,
    transport: Any,
    server: WireServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"{prefix}_BASE_URL", getattr(server, url))
    monkeypatch.setenv(f"{prefix}_CUSTOM_HEADERS", "X-Team: a:b\nno header\n")
    request = sent(server, provider_for(f"{provider}:m", api_key="k", transport=transport))
    if provider == "google" and transport == "sdk":  # Google's SDK has no such variable
        assert "x-team" not in request.headers
    else:
        assert request.headers["x-team"] == "a:b"


@both_transports
def test_openais_account(
    transport: Any, server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project")
    headers = sent(server, PROVIDERS["openai"].make(server, transport=transport)).headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("org", "project")


def test_an_invalid_address_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000")
    adapter = provider_for("openai:m", api_key="k", transport="native")
    with pytest.raises(ConfigurationError, match="localhost:8000"):
        adapter.send(Request(prompt="q"))


def test_a_header_that_cannot_be_sent_is_an_invalid_request(server: WireServer) -> None:
    adapter = PROVIDERS["openai"].make(server, transport="native")
    request = Request(prompt="q", params={"extra_headers": {"X-A": "b\r\nX-B: c"}})
    with pytest.raises(Exception, match="'X-A'") as caught:
        adapter.send(request)
    assert isinstance(adapter.translate(caught.value), InvalidRequestError)
    assert not server.requests


@both_transports
def test_half_of_a_surrogate_pair_is_an_invalid_request(transport: str, server: WireServer) -> None:
    """Models send such text; it cannot go back to them. They did not fail."""
    adapter = PROVIDERS["openai"].make(server, transport=transport)
    with pytest.raises((UnicodeEncodeError, TypeError)) as caught:
        adapter.send(Request(prompt="\ud800"))
    assert isinstance(adapter.translate(caught.value), InvalidRequestError)
    adapter.close()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"deep": -float("inf")}]])
def test_a_number_that_json_lacks_is_never_sent_as_null(value: Any, server: WireServer) -> None:
    adapter = PROVIDERS["openai"].make(server, transport="native")
    with pytest.raises(TypeError, match="NaN or an infinity"):
        adapter.send(Request(prompt="q", params={"made_up": value}))
    assert sent(server, adapter, made_up=[None, 1.5]).body["made_up"] == [None, 1.5]
