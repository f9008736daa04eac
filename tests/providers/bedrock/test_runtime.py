"""Bedrock over the native transport: signed like boto3's requests, and without threads."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
import pytest
import trustme
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import (
    CredentialProvider,
    CredentialResolver,
    Credentials,
    RefreshableCredentials,
)

from agentkit import ConnectionOptions, provider_for
from agentkit import errors as e
from agentkit.bedrock import (
    AuthConfig,
    AuthenticationType,
    Boto3Config,
    LLMManager,
    create_user_message,
)
from agentkit.providers.bedrock.clients import Clients
from agentkit.providers.bedrock.converse import ConverseTarget
from agentkit.providers.bedrock.operation import Operation
from agentkit.providers.bedrock.runtime import HttpRuntime
from agentkit.testing import WireServer, faults
from agentkit.testing.wire.protocol import RecordedRequest, to_json
from agentkit.types import Request
from tests.forks import forks, in_child
from tests.helpers import until
from tests.providers.bedrock.wired import ANSWER, AUTH, DIRECT, MODES, REGION, clients_at
from tests.providers.transport.servers import Link, http, serving

pytestmark = pytest.mark.wire

ASKED = Request(prompt="capital?")
SECRET = "not-a-real-secret"
modes = pytest.mark.parametrize("mode", MODES)
transports = pytest.mark.parametrize("transport", ["sdk", "native"])


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer(reply=ANSWER) as running:
        yield running


def native(clients: Clients, transport: Any = "native") -> ConverseTarget:
    return ConverseTarget("Model", REGION, [DIRECT], clients, transport=transport)


def ask(target: ConverseTarget, mode: str = "sync", *, stream: bool = False) -> str:
    """The text of an answer."""

    async def answer() -> str:
        if not stream:
            return (await target.asend(ASKED)).text
        return "".join([getattr(each, "text", "") async for each in target.astream(ASKED)])

    if mode == "async":
        return asyncio.run(answer())
    if not stream:
        return target.send(ASKED).text
    return "".join(getattr(each, "text", "") for each in target.stream(ASKED))


def signature_of(request: RecordedRequest, url: str, token: str | None = None) -> str:
    """The header that proves a request, computed again by botocore."""
    auth = SigV4Auth(Credentials(str(AUTH.access_key_id), SECRET, token), "bedrock", REGION)
    stated = request.headers["authorization"]
    signed = stated.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    parts = urlsplit(url)
    again = AWSRequest(
        method="POST",
        url=f"{parts.scheme}://{parts.netloc}{request.path}",
        headers={name: request.headers[name] for name in signed if name != "host"},
        data=bytes_of(request),
    )
    again.context["timestamp"] = request.headers["x-amz-date"]
    proof = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
    return f"{stated.partition('Signature=')[0]}Signature={proof}"


def bytes_of(request: RecordedRequest) -> bytes:
    """The body as it was sent: the SDK writes JSON with spaces, the native transport without."""
    with_spaces, without = json.dumps(request.body).encode(), to_json(request.body)
    length = int(request.headers["content-length"])
    return with_spaces if length == len(with_spaces) else without


@modes
@transports
@pytest.mark.parametrize("token", [None, "of-a-session"])
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
def test_the_service_would_accept_the_signature(
    server: WireServer, mode: str, transport: str, token: str | None, stream: bool
) -> None:
    auth = AuthConfig(
        AuthenticationType.CREDENTIALS,
        access_key_id=AUTH.access_key_id,
        secret_access_key=SECRET,
        session_token=token,
    )
    with Clients(auth, endpoint_url=server.bedrock_url) as clients:
        assert ask(native(clients, transport), mode, stream=stream) == ANSWER
    (request,) = server.requests
    assert request.headers.get("x-amz-security-token") == token
    assert request.headers["authorization"] == signature_of(request, server.bedrock_url, token)


def test_both_transports_send_the_same(server: WireServer) -> None:
    sent = []
    for transport in ("sdk", "native"):
        with clients_at(server.bedrock_url) as clients:
            ask(native(clients, transport))
        request = server.requests[-1]
        names = ("content-type", "user-agent", "host", "accept-encoding")
        sent.append((request.path, request.body, [request.headers.get(name) for name in names]))
    assert sent[0] == sent[1]


def test_both_transports_return_the_same(server: WireServer) -> None:
    def without_id(data: Any) -> Any:
        metadata = data["ResponseMetadata"]
        names = "HTTPStatusCode", "RetryAttempts"
        assert metadata["RequestId"] == metadata["HTTPHeaders"]["x-amzn-requestid"]
        kept = [metadata[name] for name in names], set(metadata["HTTPHeaders"])
        return {**data, "ResponseMetadata": kept}

    found = []
    for transport in ("sdk", "native"):
        with clients_at(server.bedrock_url) as clients:
            target = native(clients, transport)
            complete = without_id(target.send(ASKED).raw)
            events = [getattr(each, "raw", None) for each in target.stream(ASKED)]
        found.append((complete, events))
    assert found[0] == found[1]


class Recorder:
    """Answers over TLS, or as a proxy, and keeps the requests."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.received: list[bytes] = []

    def __call__(self, link: Link) -> None:
        if self._context is not None:
            link.use_tls(self._context)
        while (request := link.request()) is not None:
            self.received.append(request)
            link.send(http(json.dumps(COMPLETE).encode()))


COMPLETE = {
    "output": {"message": {"role": "assistant", "content": [{"text": ANSWER}]}},
    "stopReason": "end_turn",
}


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """What a server here proves its name with; AWS_CA_BUNDLE names who signed it."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return context


@modes
@transports
def test_an_api_key_is_sent_instead_of_a_signature(
    tls: ssl.SSLContext, mode: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "made-up-key")
    environment = AuthConfig(AuthenticationType.ENVIRONMENT)
    recorder = Recorder(tls)
    with (
        serving(recorder) as behind,
        Clients(environment, endpoint_url=f"https://127.0.0.1:{behind.port}") as clients,
    ):
        assert ask(native(clients, transport), mode) == ANSWER
    assert b"\r\nAuthorization: Bearer made-up-key\r\n" in recorder.received[0]


@modes
@pytest.mark.parametrize("key", ["made-up\r\nx-evil: 1", "made-up"])
@transports
def test_an_api_key_is_not_sent_in_the_open(
    server: WireServer, mode: str, transport: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
    environment = AuthConfig(AuthenticationType.ENVIRONMENT)
    with Clients(environment, endpoint_url=server.bedrock_url) as clients:
        with pytest.raises(e.LLMError) as caught:
            ask(native(clients, transport), mode)
        assert server.requests == ()
    assert "made-up" not in f"{caught.value} {caught.value.__cause__!r}"


@modes
def test_an_api_key_that_cannot_be_sent_is_in_no_message(
    tls: ssl.SSLContext, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "made-up\r\nx-evil: 1")
    environment = AuthConfig(AuthenticationType.ENVIRONMENT)
    with (
        Clients(environment, endpoint_url="https://127.0.0.1:1") as clients,
        pytest.raises(e.AuthenticationError, match="cannot be sent") as caught,
    ):
        ask(native(clients), mode)
    assert "made-up" not in f"{caught.value} {caught.value.__cause__!r}"


def runtime_client(**options: Any) -> Any:
    """A client of the SDK with options of the user."""
    verify = options.pop("verify", None)
    return boto3.client(
        "bedrock-runtime",
        region_name=REGION,
        aws_access_key_id=AUTH.access_key_id,
        aws_secret_access_key=SECRET,
        config=Config(**options),
        verify=verify,
    )


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ({}, "bedrock-runtime.us-east-1.amazonaws.com"),
        ({"use_fips_endpoint": True}, "bedrock-runtime-fips.us-east-1.amazonaws.com"),
        ({"use_dualstack_endpoint": True}, "bedrock-runtime.us-east-1.api.aws"),
    ],
)
def test_the_endpoint_is_the_one_of_botocore(options: dict[str, Any], host: str) -> None:
    assert Operation(runtime_client(**options), "Converse").endpoint == f"https://{host}"


@modes
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_ENDPOINT_URL"])
def test_the_environment_may_name_the_endpoint(
    server: WireServer, mode: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, server.bedrock_url)
    with Clients(AUTH) as clients:
        assert ask(native(clients), mode) == ANSWER


@pytest.mark.parametrize("port", [":443", ""])
def test_a_default_port_is_neither_signed_nor_sent(port: str) -> None:
    client = boto3.client(
        "bedrock-runtime",
        region_name=REGION,
        endpoint_url=f"https://host.example{port}/base",
        aws_access_key_id="k",
        aws_secret_access_key="s",
    )
    assert Operation(client, "Converse").endpoint == "https://host.example/base"


@modes
@pytest.mark.parametrize("source", ["environment", "session"])
def test_a_proxy_of_the_environment_or_of_the_session_is_used(
    mode: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place: list[str] = []

    def session_of(_: AuthConfig) -> Any:
        core = botocore.session.Session()
        if source == "session":
            core.set_default_client_config(Config(proxies={"http": place[0]}))
        return boto3.Session("k", "s", botocore_session=core)

    recorder = Recorder()
    with serving(recorder) as proxy:
        place.append(f"http://127.0.0.1:{proxy.port}")
        if source == "environment":
            monkeypatch.setenv("http_proxy", place[0])
        url = "http://bedrock.example.test"
        with Clients(AUTH, endpoint_url=url, session_factory=session_of) as clients:
            assert ask(native(clients), mode) == ANSWER
    head = recorder.received[0]
    assert head.startswith(f"POST {url}/model/".encode())
    assert b"\r\nHost: bedrock.example.test\r\n" in head


@modes
@pytest.mark.parametrize("trusted", [True, False])
def test_the_certificates_of_aws_ca_bundle_are_trusted_alone(
    tls: ssl.SSLContext, mode: str, trusted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not trusted:
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "other.pem"))
    recorder = Recorder(tls)
    with (
        serving(recorder) as behind,
        Clients(AUTH, endpoint_url=f"https://127.0.0.1:{behind.port}") as clients,
    ):
        if trusted:
            assert ask(native(clients), mode) == ANSWER
            return
        with pytest.raises(e.NetworkError) as caught:
            ask(native(clients), mode)
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value.__cause__)
    assert recorder.received == []


@modes
def test_the_certificates_of_the_options_win_over_aws_ca_bundle(
    tls: ssl.SSLContext, mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "other.pem"))
    options = ConnectionOptions(ca_bundle=str(tmp_path / "ca.pem"))
    with (
        serving(Recorder(tls)) as behind,
        Clients(
            AUTH, endpoint_url=f"https://127.0.0.1:{behind.port}", connections=options
        ) as clients,
    ):
        assert ask(native(clients), mode) == ANSWER


@pytest.mark.parametrize(
    ("given", "config", "opened"),
    [
        (None, {}, 100),
        (None, {"max_pool_connections": 102}, 102),
        (ConnectionOptions(max_keepalive_connections=2), {"max_pool_connections": 102}, 2),
    ],
    ids=["default", "of Boto3Config", "of ConnectionOptions"],
)
def test_as_many_idle_connections_are_kept_as_the_options_say(
    server: WireServer, given: ConnectionOptions | None, config: dict[str, int], opened: int
) -> None:
    with Clients(
        AUTH, Boto3Config(**config), endpoint_url=server.url, connections=given
    ) as clients:
        native(clients).warm_up(200)
        until(lambda: server.connections == opened)


@pytest.mark.parametrize(
    "options",
    [
        {"client_cert": "/a.pem"},
        {"proxies_config": {"proxy_ca_bundle": "/a.pem"}},
        {"verify": False},
    ],
)
def test_an_option_that_only_the_sdk_serves_is_refused(options: dict[str, Any]) -> None:
    class Own(Clients):
        def runtime(self, region: str) -> Any:
            return runtime_client(**options)

    with Own(AUTH) as clients, pytest.raises(e.ConfigurationError, match="transport='sdk'"):
        ask(native(clients))


class _Renewed(CredentialProvider):  # type: ignore[misc]
    """Credentials that end soon, and are renewed when `go` is set."""

    METHOD = "of-the-test"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.threads: list[int] = []
        self.left = dt.timedelta(hours=1)

    def load(self) -> RefreshableCredentials:
        return RefreshableCredentials.create_from_metadata(
            self._metadata(), self._renew, self.METHOD, advisory_timeout=900, mandatory_timeout=600
        )

    def _metadata(self) -> dict[str, str]:
        expiry = dt.datetime.now(dt.UTC) + self.left
        return {
            "access_key": str(AUTH.access_key_id),
            "secret_key": SECRET,
            "token": "t",
            "expiry_time": expiry.isoformat(),
        }

    def _renew(self) -> dict[str, str]:
        self.threads.append(threading.get_ident())
        assert self.go.wait(20)
        self.left = dt.timedelta(hours=1)
        return self._metadata()


def test_the_event_loop_runs_on_while_credentials_are_renewed(server: WireServer) -> None:
    provider = _Renewed()

    def session_of(_: AuthConfig) -> Any:
        core = botocore.session.Session()
        core.register_component("credential_provider", CredentialResolver([provider]))
        return boto3.Session(botocore_session=core)

    async def main(target: ConverseTarget) -> None:
        provider.left = dt.timedelta(minutes=1)  # it must be renewed before it is used
        waiting = asyncio.create_task(target.asend(ASKED))
        await asyncio.to_thread(until, lambda: bool(provider.threads))
        provider.go.set()
        assert (await waiting).text == ANSWER
        assert (await target.asend(ASKED)).text == ANSWER
        assert len(provider.threads) == 1
        assert provider.threads[0] != threading.get_ident()

    with Clients(AUTH, endpoint_url=server.bedrock_url, session_factory=session_of) as clients:
        asyncio.run(main(native(clients)))


def test_missing_credentials_do_not_hold_up_the_event_loop(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking for them may ask the metadata service of a machine."""
    looked: list[int] = []

    def session_of(_: AuthConfig) -> Any:
        looked.append(threading.get_ident())
        return boto3.Session("k", "s")

    with Clients(AUTH, endpoint_url=server.bedrock_url, session_factory=session_of) as clients:
        assert ask(native(clients), "async") == ANSWER
    assert len(looked) == 1
    assert looked[0] != threading.get_ident()


@modes
def test_a_header_that_a_handler_of_botocore_adds_is_signed_and_sent(
    server: WireServer, mode: str
) -> None:
    def session_of(_: AuthConfig) -> Any:
        session = boto3.Session(AUTH.access_key_id, SECRET)
        session.events.register(
            "before-sign.bedrock-runtime",
            lambda request, **_: request.headers.add_header("x-team", "a"),
        )
        return session

    with Clients(AUTH, endpoint_url=server.bedrock_url, session_factory=session_of) as clients:
        assert ask(native(clients), mode) == ANSWER
    (request,) = server.requests
    assert request.headers["x-team"] == "a"
    assert request.headers["authorization"] == signature_of(request, server.bedrock_url)


def test_requests_that_begin_together_are_prepared_over_several_turns(server: WireServer) -> None:
    """The event loop has time for others in between."""
    turn = 0
    prepared: Counter[int] = Counter()

    def prepare(request: Any, **_: Any) -> None:
        prepared[turn] += 1
        request.headers.add_header("x-team", "a")  # so that botocore signs each request

    def session_of(_: AuthConfig) -> Any:
        session = boto3.Session(AUTH.access_key_id, SECRET)
        session.events.register("before-sign.bedrock-runtime", prepare)
        return session

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def main(target: ConverseTarget) -> None:
        await target.asend(ASKED)
        prepared.clear()
        counting = asyncio.create_task(count())
        await asyncio.gather(*(target.asend(ASKED) for _ in range(50)))
        counting.cancel()

    with Clients(AUTH, endpoint_url=server.bedrock_url, session_factory=session_of) as clients:
        asyncio.run(main(native(clients)))
    assert prepared.total() == 50
    assert max(prepared.values()) <= 4


def test_streams_share_no_threads(server: WireServer) -> None:
    server.always(faults.stalled_stream(2))
    count = 20

    async def main(target: ConverseTarget) -> None:
        streams = [target.astream_lists(ASKED) for _ in range(count)]
        await asyncio.gather(*(anext(each) for each in streams))
        server.wait_until(lambda at: at.connections == count)
        for each in streams:
            await each.aclose()
        await asyncio.to_thread(server.wait_until, lambda at: at.connections == 0)

    with clients_at(server.bedrock_url, concurrency=1) as clients:
        asyncio.run(main(native(clients)))


def test_another_threads_request_is_sent_while_a_client_is_read(server: WireServer) -> None:
    """What reads the endpoint answers a request of its own thread only."""
    answers: list[Any] = []
    with clients_at(server.bedrock_url) as clients:
        client = clients.runtime(REGION)

        def ask_meanwhile(**_: Any) -> None:
            client.meta.events.unregister("before-call", ask_meanwhile)
            asked = [{"role": "user", "content": [{"text": "capital?"}]}]
            other = threading.Thread(
                target=lambda: answers.append(client.converse(modelId="m", messages=asked))
            )
            other.start()
            other.join()

        client.meta.events.register("before-call", ask_meanwhile)
        assert ask(native(clients)) == ANSWER
    assert answers[0]["output"]["message"]["content"] == [{"text": ANSWER}]


def test_closing_closes_the_connections_and_the_next_request_opens_new_ones(
    server: WireServer,
) -> None:
    with clients_at(server.bedrock_url) as clients:
        target = native(clients)
        assert ask(target) == ANSWER
        clients.close()
        server.wait_until(lambda at: at.connections == 0)
        assert ask(target, "async") == ANSWER
        assert ask(target) == ANSWER


@forks
def test_a_forked_child_opens_its_own_connections(server: WireServer) -> None:
    with clients_at(server.bedrock_url) as clients:
        target = native(clients)
        assert ask(target) == ANSWER
        assert in_child(lambda: ask(target)) == ANSWER
        assert ask(target) == ANSWER
        assert server.connections == 1


@modes
@transports
def test_bytes_of_a_conversation_are_sent_as_base64(
    server: WireServer, mode: str, transport: Any
) -> None:
    image = {"format": "png", "source": {"bytes": b"\x89PNG"}}
    message = create_user_message().add_text("this?").build()
    message["content"].append({"image": image})
    with LLMManager(
        ["Claude 3 Haiku"], [REGION], AUTH, endpoint_url=server.bedrock_url, transport=transport
    ) as llm:
        asked = [message]
        reply = llm.converse(asked) if mode == "sync" else asyncio.run(llm.aconverse(asked))
    assert reply.get_content() == ANSWER
    assert server.requests[0].body["messages"][0]["content"][1]["image"]["source"] == {
        "bytes": "iVBORw=="
    }


@modes
def test_a_spec_may_name_the_transport(
    server: WireServer, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    target = provider_for(
        f"bedrock:Claude 3 Haiku@{REGION}", base_url=server.bedrock_url, transport="native"
    )
    assert ask(target, mode) == ANSWER


@modes
@transports
def test_a_manager_opens_one_set_of_connections_for_the_models_of_a_region(
    mode: str, transport: Any, server: WireServer
) -> None:
    async def awarm_up(manager: LLMManager) -> dict[str, e.LLMError]:
        found = await manager.awarm_up(connections=3)
        await asyncio.to_thread(until, lambda: server.connections == opened)
        await manager.aclose()
        return found

    opened = 3 if transport == "native" else 0
    models = ["Claude 3 Haiku", "Nova Lite"]
    with (
        clients_at(server.url) as clients,
        LLMManager(models, [REGION], clients=clients, transport=transport) as manager,
    ):
        if mode == "async":
            assert asyncio.run(awarm_up(manager)) == {}
        else:
            assert manager.warm_up(connections=3) == {}
            until(lambda: server.connections == opened)
    assert not server.requests


@pytest.mark.parametrize(
    ("part", "on_thread"),
    [
        ({"text": "x" * 1000}, False),
        ({"text": "x" * 200_000}, True),
        ({"document": {"format": "pdf", "name": "d", "source": {"bytes": bytes(200_000)}}}, True),
    ],
    ids=["small", "long text", "document"],
)
def test_a_large_request_is_prepared_on_a_thread(
    part: dict[str, Any], on_thread: bool, server: WireServer
) -> None:
    """The event loop runs on meanwhile: a document of 5 MB takes a tenth of a second."""
    used: list[bool] = []

    def executor() -> Any:
        used.append(True)
        return clients.executor

    async def ask(runtime: HttpRuntime) -> None:
        await runtime.aconverse(modelId="m", messages=[{"role": "user", "content": [part]}])
        await runtime.aclose()

    with clients_at(server.bedrock_url) as clients:
        asyncio.run(ask(HttpRuntime(clients.runtime(REGION), executor)))
    assert bool(used) == on_thread
    assert len(server.requests) == 1
