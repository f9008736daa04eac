"""Servers that must not be trusted, handshakes that hang, and proxies of every kind."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import traceback
import tracemalloc
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from agentkit import ConfigurationError, InvalidResponseError, NetworkError, ProviderTimeoutError
from agentkit.providers.transport.connection import CancelScope
from agentkit.providers.transport.http.address import TunnelError, address_of
from agentkit.providers.transport.http.asyncio_client import AsyncHttpClient
from agentkit.providers.transport.http.failures import HttpTimeoutError
from agentkit.providers.transport.http.request_head import request_head
from agentkit.providers.transport.options import ConnectionOptions
from agentkit.types import Request
from tests.providers.transport.servers import (
    ANSWER,
    KEY,
    PATIENCE,
    Link,
    answering,
    asking,
    calling,
    complete_and_stream,
    either_way,
    http,
    native,
    serving,
)

pytestmark = pytest.mark.wire
HOST = "api.example.test"
CA = trustme.CA()


@pytest.fixture(autouse=True)
def _trusted(_isolated: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment trusts `CA`, and names no proxy."""
    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    for name in ("http", "https", "all", "no"):
        for variable in (f"{name}_proxy", f"{name}_proxy".upper()):
            monkeypatch.delenv(variable, raising=False)


def identity(
    host: str = HOST, *, ca: trustme.CA = CA, until: datetime | None = None
) -> ssl.SSLContext:
    """What a server proves its name with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host, not_after=until).configure_cert(context)
    return context


def over_tls(context: ssl.SSLContext) -> Callable[[Link], None]:
    def talk(link: Link) -> None:
        link.use_tls(context)
        answering(http(ANSWER))(link)

    return talk


def hang(link: Link) -> None:
    link.wait()


@either_way
def test_a_server_with_a_good_certificate_is_asked_over_one_connection(way: str) -> None:
    with serving(over_tls(identity("127.0.0.1"))) as server:
        url = f"https://127.0.0.1:{server.port}/v1"
        with asking(way, native(url)) as asker:
            assert [asker.ask() for _ in range(3)] == ["Paris"] * 3
        assert server.accepted == 1
        server.wait_until_all_left()


@either_way
def test_the_certificates_of_the_options_are_trusted_in_place_of_the_environments(
    way: str, tmp_path: Path
) -> None:
    own = trustme.CA()
    own.cert_pem.write_to_path(str(tmp_path / "own.pem"))
    options = ConnectionOptions(ca_bundle=str(tmp_path / "own.pem"))
    with serving(over_tls(identity("127.0.0.1", ca=own))) as trusted:
        url = f"https://127.0.0.1:{trusted.port}/v1"
        with asking(way, native(url, connections=options)) as asker:
            assert asker.ask() == "Paris"
    with serving(over_tls(identity("127.0.0.1"))) as other:
        url = f"https://127.0.0.1:{other.port}/v1"
        with asking(way, native(url, connections=options)) as asker:
            assert "unable to get local issuer" in str(asker.error())


def test_an_open_connection_over_tls_takes_little_memory() -> None:
    """asyncio's own TLS has a buffer of 256 KiB for each."""

    def talk(link: Link) -> None:
        link.use_tls(context)
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        link.wait()

    async def bytes_of_one(url: str) -> float:
        address = address_of(url)
        client = AsyncHttpClient(address)
        request = request_head("/", address.authority, {}) + b"2\r\n\r\n{}"
        replies = [await client.post(request, PATIENCE)]
        tracemalloc.start()
        replies += [await client.post(request, PATIENCE) for _ in range(8)]
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for reply in replies:
            reply.release(finished=False)
        await client.aclose()
        return taken / 8

    context = identity("127.0.0.1")
    with serving(talk) as server:
        taken = asyncio.run(bytes_of_one(f"https://127.0.0.1:{server.port}"))
        server.wait_until_all_left()
    assert taken < 200 * 1024  # the end of the server included


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (identity("other.example"), "IP address mismatch"),
        (identity("127.0.0.1", ca=trustme.CA()), "unable to get local issuer"),
        (identity("127.0.0.1", until=datetime(2020, 1, 1, tzinfo=UTC)), "has expired"),
    ],
    ids=["wrong host", "unknown CA", "expired"],
)
@either_way
def test_a_server_that_cannot_be_trusted_gets_no_request(
    way: str, context: ssl.SSLContext, reason: str
) -> None:
    with serving(over_tls(context)) as server:
        url = f"https://127.0.0.1:{server.port}/v1"
        with asking(way, native(url)) as asker:
            error = asker.error()
        assert isinstance(error, NetworkError)
        text = "".join(traceback.format_exception(error))
        assert reason in text
        assert KEY not in text
        server.wait_until_all_left()


@either_way
def test_certificates_that_cannot_be_read_are_a_mistake_of_the_configuration(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with asking(way, native("https://127.0.0.1:1/v1")) as asker:
        error = asker.error()
    assert isinstance(error, ConfigurationError)
    assert "/nowhere.pem" in str(error)


@pytest.mark.parametrize("secure", [True, False], ids=["TLS", "tunnel"])
@either_way
def test_a_handshake_or_a_proxy_that_hangs_ends_with_its_own_limit(
    way: str, secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(hang) as server:
        if secure:
            url = f"https://127.0.0.1:{server.port}/v1"
            message = "TLS: 127.0.0.1 did not complete the handshake within 0.1 s"
        else:
            url = f"https://{HOST}/v1"
            message = f"connect: the proxy 127.0.0.1:{server.port} opened no tunnel within 0.1 s"
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
        options = ConnectionOptions(connect_timeout=0.1)
        with (
            calling(way, url, options=options) as caller,
            pytest.raises(HttpTimeoutError) as caught,
        ):
            caller.post(read_timeout=600.0)
        assert str(caught.value) == message
        server.wait_until_all_left()


def leave_the_handshake(link: Link) -> None:
    link.connection.recv(100)


def speak_plain_http(link: Link) -> None:
    link.connection.recv(100)
    link.send(http(ANSWER))
    link.wait()


def send_a_broken_record(link: Link) -> None:
    link.use_tls(identity("127.0.0.1"))
    link.request()
    link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    socket.socket.sendall(link.connection, b"\x17\x03\x03\x00\x10" + b"x" * 16)
    while socket.socket.recv(link.connection, 65_536):
        pass


@pytest.mark.parametrize("talk", [leave_the_handshake, speak_plain_http, send_a_broken_record])
@either_way
def test_a_server_that_breaks_tls_is_a_failed_connection(
    way: str, talk: Callable[[Link], None]
) -> None:
    with serving(talk) as server:
        with asking(way, native(f"https://127.0.0.1:{server.port}/v1")) as asker:
            assert isinstance(asker.error(), NetworkError)
        server.wait_until_all_left()


@either_way
def test_a_time_limit_below_that_on_connecting_holds_for_the_handshake(way: str) -> None:
    with serving(hang) as server:
        with asking(way, native(f"https://127.0.0.1:{server.port}/v1")) as asker:
            error = asker.error(timeout=0.05)
        assert isinstance(error, ProviderTimeoutError)
        assert "TLS: 127.0.0.1 did not complete the handshake in the 0.0" in str(error)
        server.wait_until_all_left()


def test_a_handshake_that_hangs_can_be_cancelled_by_another_thread() -> None:
    reached = threading.Event()

    def talk(link: Link) -> None:
        link.connection.recv(1)
        reached.set()
        link.wait()

    scope = CancelScope()
    with serving(talk) as server:

        def cancel() -> None:
            assert reached.wait(PATIENCE)
            scope.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with asking("sync", native(f"https://127.0.0.1:{server.port}/v1")) as asker, scope:
            assert isinstance(asker.error(), NetworkError)
        thread.join()
        server.wait_until_all_left()


def proxy_of(requests: list[bytes], credentials: str | None = None) -> Callable[[Link], None]:
    """A proxy that is the server behind it, too."""
    context = identity()
    expected = b"Proxy-Authorization: Basic " + b64encode((credentials or "").encode())

    def talk(link: Link) -> None:
        tunnel = False
        while (request := link.request()) is not None:
            requests.append(request)
            if credentials is not None and expected not in request and not tunnel:
                link.send(http(b"", status="407 Proxy Authentication Required"))
            elif request.startswith(b"CONNECT"):
                link.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                link.use_tls(context)
                tunnel = True
            else:
                link.send(http(ANSWER))

    return talk


@either_way
def test_a_tunnel_through_a_proxy(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[bytes] = []
    with serving(proxy_of(requests, "ann:p@ss")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ann:p%40ss@127.0.0.1:{proxy.port}")
        with asking(way, native(f"https://{HOST}/v1")) as asker:
            assert [asker.ask(), asker.ask()] == ["Paris"] * 2
        assert proxy.accepted == 1
        proxy.wait_until_all_left()
    connect, *others = requests
    assert connect.startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n".encode())
    assert KEY.encode() not in connect
    assert all(each.startswith(b"POST /v1/chat/completions ") for each in others)
    assert b"Proxy-Authorization" not in b"".join(others)


@either_way
def test_a_proxy_for_plain_http(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[bytes] = []
    with serving(proxy_of(requests, "ann:secret")) as proxy:
        monkeypatch.setenv("http_proxy", f"http://ann:secret@127.0.0.1:{proxy.port}")
        with asking(way, native(f"http://{HOST}:8080/v1")) as asker:
            assert asker.ask() == "Paris"
    target = f"POST http://{HOST}:8080/v1/chat/completions HTTP/1.1\r\nHost: {HOST}:8080\r\n"
    assert requests[0].startswith(target.encode())


@either_way
@complete_and_stream
def test_a_proxy_that_refuses(way: str, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(proxy_of([], "ann:secret")) as proxy:
        monkeypatch.setenv("https_proxy", f"http://ann:wrong-one@127.0.0.1:{proxy.port}")
        with asking(way, native(f"https://{HOST}/v1")) as asker:
            error = asker.error(stream=stream)
        proxy.wait_until_all_left()
    text = "".join(traceback.format_exception(error))
    assert isinstance(error, NetworkError)
    where = f"at https://{HOST} through the proxy 127.0.0.1:{proxy.port}"
    assert f"{where} (the proxy answered 407)" in str(error)
    assert "wrong-one" not in text


def close(link: Link) -> None:
    link.request()


def speak_nonsense(link: Link) -> None:
    link.request()
    link.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    link.wait()


@pytest.mark.parametrize(
    ("talk", "kind"), [(close, NetworkError), (speak_nonsense, InvalidResponseError)]
)
@either_way
def test_a_proxy_that_breaks_off_or_is_none(
    way: str, talk: Callable[[Link], None], kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(talk) as proxy:
        monkeypatch.setenv("https_proxy", f"http://ann:secret@127.0.0.1:{proxy.port}")
        with asking(way, native(f"https://{HOST}/v1")) as asker:
            error = asker.error()
        proxy.wait_until_all_left()
    assert isinstance(error, kind)
    assert "secret" not in "".join(traceback.format_exception(error))


@either_way
def test_a_proxy_that_does_not_run(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://ann:secret@127.0.0.1:1")
    with asking(way, native(f"https://{HOST}/v1")) as asker:
        error = asker.error()
    assert isinstance(error, NetworkError)
    assert "Connection refused" in str(error)
    assert "secret" not in str(error)


@either_way
def test_hosts_of_no_proxy_are_asked_directly(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answering(http(ANSWER))) as server:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "other.test,127.0.0.1")
        with asking(way, native(server.url)) as asker:
            assert asker.ask() == "Paris"


@pytest.mark.parametrize(
    ("host", "listed", "direct"),
    [
        ("10.1.2.3", "localhost, 10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("llm.corp.example", "*.corp.example", True),
        ("corp.example", "*.corp.example", False),
        ("LLM.Corp.Example", "*.corp.example", True),
        ("llm.corp.example", ".corp.example", True),
        ("llm.corp.example", "localhost,*", True),
        ("[::1]", "::1", True),
        ("[::1]", "[::1]", True),
        ("[fd00::7]", "fd00::/8", True),
        ("10.1.2.3", "", False),
    ],
)
def test_no_proxy_takes_what_the_sdks_take(
    host: str, listed: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", listed)
    assert (address_of(f"https://{host}:8443/v1").proxy is None) is direct


def test_any_2xx_opens_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    address = address_of(f"https://{HOST}/v1")
    address.check_tunnel(201)
    with pytest.raises(TunnelError, match="answered 302"):
        address.check_tunnel(302)


@pytest.mark.parametrize(
    "proxy", ["socks5://ann:secret@h:1", "https://h:1", "http://ann:secret@h:x"]
)
def test_a_proxy_that_cannot_be_used_is_a_mistake_of_the_configuration(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(ConfigurationError) as caught:
        native(f"https://{HOST}/v1").send(Request(prompt="q"))
    assert "secret" not in str(caught.value)
