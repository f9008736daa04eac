"""A sync request can be cancelled from another thread, whatever the provider sends meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from agentkit import CircuitBreaker, LLMError, LLMManager, NetworkError, Response
from agentkit.providers.errors import translate
from agentkit.providers.transport.connection import CancelScope, make_cancellable
from agentkit.testing import WireServer, faults
from agentkit.types import Request
from tests.helpers import until, with_backup
from tests.providers.contract import ADAPTERS, ANSWER

pytestmark = pytest.mark.wire
every_provider = pytest.mark.parametrize("provider", ADAPTERS)
complete_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])

TRICKLE = faults.trickle(0.02)
FOREVER = 30.0
"""Seconds that a provider takes if nothing ends the request."""


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer(reply=ANSWER) as opened:
        yield opened


def send(adapter: Any, scope: CancelScope, *, stream: bool) -> None:
    request = Request(prompt="q")
    with scope:
        if stream:
            list(adapter.stream(request))
        else:
            adapter.send(request)


def failure(adapter: Any, scope: CancelScope, *, stream: bool) -> LLMError:
    try:
        send(adapter, scope, stream=stream)
    except Exception as exc:
        return translate(exc, provider="p", model="m")
    pytest.fail("it answered")


def ask(llm: LLMManager, *, stream: bool, **options: Any) -> Response[Any]:
    if not stream:
        return llm.complete("q", **options)
    with llm.stream("q", **options) as opened:
        list(opened.events())
    return opened.response


@every_provider
@complete_and_stream
def test_cancelling_ends_a_request_that_trickles(
    provider: str, stream: bool, server: WireServer
) -> None:
    """The canary of the libraries' internals: it fails if sockets can no longer be reached."""
    adapter = ADAPTERS[provider].make(server)
    adapter.send(Request(prompt="warm up"))
    server.always(TRICKLE)
    scope = CancelScope()

    def cancel() -> None:
        server.wait_until(lambda at: len(at.requests) == 2)
        scope.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    assert isinstance(failure(adapter, scope, stream=stream), NetworkError)
    thread.join()
    server.wait_until(lambda at: at.connections == 0, timeout=FOREVER / 3)
    server.clear()
    assert adapter.send(Request(prompt="again")).text == ANSWER
    adapter.close()


def test_nothing_is_sent_in_a_cancelled_scope(server: WireServer) -> None:
    adapter = ADAPTERS["openai"].make(server)
    scope = CancelScope()
    scope.cancel()
    assert isinstance(failure(adapter, scope, stream=False), NetworkError)
    assert not server.requests
    adapter.close()


def test_the_connection_of_another_request_is_never_cancelled(server: WireServer) -> None:
    adapter = ADAPTERS["openai"].make(server)
    first, second = CancelScope(), CancelScope()
    send(adapter, first, stream=False)
    server.always(faults.latency(0.1))
    thread = threading.Thread(target=send, args=(adapter, second), kwargs={"stream": False})
    thread.start()
    server.wait_until(lambda at: len(at.requests) == 2)
    assert server.connections == 1
    first.cancel()
    thread.join()
    assert len(server.requests) == 2
    assert server.connections == 1
    adapter.close()


def test_a_client_with_other_internals_stays_as_it_is(server: WireServer) -> None:
    make_cancellable(object())
    with httpx.Client(transport=httpx.HTTPTransport()) as client:
        del client._transport._pool._network_backend  # type: ignore[attr-defined]
        make_cancellable(client)
    server.always(TRICKLE)
    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)))
    make_cancellable(client)
    with CancelScope():
        assert client.get("http://host").status_code == 200


@every_provider
@complete_and_stream
@pytest.mark.parametrize("fault", [TRICKLE, faults.silence()], ids=["trickle", "silence"])
def test_without_a_timeout_the_share_of_the_deadline_ends_an_attempt(
    provider: str, stream: bool, fault: faults.Fault, server: WireServer
) -> None:
    adapter = ADAPTERS[provider].make(server)
    adapter.send(Request(prompt="warm up"))
    server.always(fault)
    began = time.monotonic()
    with with_backup(adapter, timeout=None) as llm:
        reply = ask(llm, stream=stream, deadline=0.4)
        assert llm.get_metrics()["stuck_calls"] == 0
    assert reply.text == "from backup"
    assert time.monotonic() - began < FOREVER / 10
    entry = reply.ledger.sent[0]
    assert (entry.error, entry.outcome, entry.reason) == (
        "ProviderTimeoutError",
        "abandoned",
        "time_share",
    )
    server.wait_until(lambda at: at.connections == 0, timeout=FOREVER / 3)
    adapter.close()


@complete_and_stream
def test_a_call_that_its_timeout_ends_keeps_neither_worker_nor_socket(
    stream: bool, server: WireServer
) -> None:
    adapter = ADAPTERS["openai"].make(server)
    adapter.send(Request(prompt="warm up"))
    server.always(TRICKLE)
    with with_backup(adapter, timeout=0.1) as llm:
        assert ask(llm, stream=stream).text == "from backup"
        server.wait_until(lambda at: at.connections == 0, timeout=FOREVER / 3)
        until(lambda: llm.get_metrics()["stuck_calls"] == 0)
    adapter.close()


def test_a_shared_stream_that_its_last_reader_leaves_is_cancelled(server: WireServer) -> None:
    adapter = ADAPTERS["openai"].make(server)
    server.always(faults.stalled_stream(1))
    breaker = CircuitBreaker()
    with LLMManager(cache="memory") as llm:
        llm.register_model("m", adapter, breaker=breaker)
        with llm.stream("q", deadline=FOREVER) as opened:
            next(opened.events())
        server.wait_until(lambda at: at.connections == 0, timeout=FOREVER / 3)
    assert breaker.statistics().failures == 0
    adapter.close()
