"""Each fault reaches the vendors' SDKs as the real one does."""

from __future__ import annotations

import json
import pickle
import socket
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from agentkit.testing import WireServer, faults
from agentkit.types import Response
from tests.testing.wire.sdks import ASKED, Client, causes, every_client, streaming_or_not

pytestmark = pytest.mark.wire

REPLY = "one two three four"
BROKEN_CONNECTION = (httpx2.RemoteProtocolError, httpx2.ReadError)
TIMEOUT = (httpx2.ReadTimeout,)
NOT_JSON = (json.JSONDecodeError,)
EVERY_FAULT = [
    faults.status(429, retry_after=2),
    faults.reset(),
    faults.disconnect(),
    faults.silence(),
    faults.malformed_body(),
    faults.latency(1.0, faults.status(503)),
    faults.slow_first_token(1.0),
    faults.slow_chunks(1.0),
    faults.trickle(1.0),
    faults.missing_end(),
    faults.cut_stream(2, reset=True),
    faults.stalled_stream(2),
    faults.malformed_chunk(2),
    faults.stream_error(2, status=529),
]


def caused_by(error: Exception | None, kinds: tuple[type[BaseException], ...]) -> bool:
    return any(isinstance(each, kinds) for each in causes(error))


@pytest.mark.parametrize(
    ("code", "openais", "kind", "anthropics"),
    [
        (400, openai.BadRequestError, None, "invalid_request_error"),
        (401, openai.AuthenticationError, "invalid_api_key", "authentication_error"),
        (404, openai.NotFoundError, "model_not_found", "not_found_error"),
        (429, openai.RateLimitError, "rate_limit_exceeded", "rate_limit_error"),
        (500, openai.InternalServerError, None, "api_error"),
        (503, openai.InternalServerError, "service_unavailable", "api_error"),
        (529, openai.InternalServerError, None, "overloaded_error"),
    ],
)
@every_client
@streaming_or_not
def test_a_status_is_the_sdks_own_error(
    client: Client, stream: bool, code: int, openais: type[Exception], kind: str, anthropics: str
) -> None:
    with WireServer() as server:
        server.script(faults.status(code))
        error = client.ask(server, stream=stream).error
        assert client.ask(server, stream=stream).error is None
    assert isinstance(error, openai.APIStatusError | anthropic.APIStatusError)
    assert error.status_code == code
    if isinstance(error, openai.APIStatusError):
        assert isinstance(error, openais)
        assert error.code == kind
    else:
        assert isinstance(error.body, dict)
        assert error.body["type"] == "error"
        assert error.body["error"]["type"] == anthropics
    assert error.request_id == "req_1"


@every_client
def test_the_message_and_the_kind_of_an_error_can_be_chosen(client: Client) -> None:
    headers = (("x-ratelimit-remaining-requests", "0"),)
    fault = faults.status(400, kind="context_length_exceeded", message="Too long.", headers=headers)
    with WireServer() as server:
        server.script(fault)
        error = client.ask(server, stream=False).error
    assert isinstance(error, openai.APIStatusError | anthropic.APIStatusError)
    assert "context_length_exceeded" in json.dumps(error.body)
    assert "Too long." in str(error)
    assert error.response.headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize(
    ("fault", "header", "value"),
    [
        (faults.status(429, retry_after=2), "retry-after", "2"),
        (faults.status(429, retry_after=0.5), "retry-after", "0.5"),
        (
            faults.status(503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"),
            "retry-after",
            "Wed, 21 Oct 2026 07:28:00 GMT",
        ),
        (faults.status(429, retry_after_ms=1500), "retry-after-ms", "1500"),
        (faults.status(429), "retry-after", None),
        (faults.status(429), "retry-after-ms", None),
    ],
)
@every_client
def test_the_retry_delay_is_in_the_headers(
    client: Client, fault: faults.Status, header: str, value: str | None
) -> None:
    with WireServer() as server:
        server.script(fault)
        error = client.ask(server, stream=False).error
    assert isinstance(error, openai.APIStatusError | anthropic.APIStatusError)
    assert error.response.headers.get(header) == value


@every_client
@streaming_or_not
def test_the_sdks_own_retries_follow_the_script(client: Client, stream: bool) -> None:
    with WireServer(reply=REPLY) as server:
        server.script(faults.status(503, retry_after_ms=1), faults.status(429, retry_after_ms=1))
        assert client.ask(server, stream=stream, max_retries=2).text == REPLY
        assert len(server.requests) == 3


@pytest.mark.parametrize("fault", [faults.reset(), faults.disconnect()], ids=repr)
@every_client
@streaming_or_not
def test_a_connection_that_is_closed_without_an_answer(
    client: Client, stream: bool, fault: faults.Fault
) -> None:
    with WireServer() as server:
        server.script(fault)
        error = client.ask(server, stream=stream).error
        assert len(server.requests) == 1
    assert isinstance(error, openai.APIConnectionError | anthropic.APIConnectionError)
    assert not isinstance(error, openai.APITimeoutError | anthropic.APITimeoutError)


def raw(server: WireServer, *, stream: bool) -> tuple[bytes, type[Exception] | None]:
    """All that a bare socket receives, and what ended it if not the server's good order."""
    body = json.dumps({"model": "m", "messages": [], "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    received = b""
    with socket.create_connection(address, timeout=10) as sock:
        sock.sendall(head + body)
        try:
            while data := sock.recv(65536):
                received += data
        except OSError as error:
            return received, type(error)
    return received, None


def test_a_reset_is_a_reset_and_a_close_is_a_close() -> None:
    with WireServer() as server:
        server.script(faults.reset(), faults.disconnect())
        assert raw(server, stream=False) == (b"", ConnectionResetError)
        assert raw(server, stream=False) == (b"", None)


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_stream_has_no_last_chunk(reset: bool) -> None:
    with WireServer(reply=REPLY) as server:
        server.script(faults.cut_stream(2, reset=reset))
        received, error = raw(server, stream=True)
    assert error is (ConnectionResetError if reset else None)
    assert not received.endswith(b"0\r\n\r\n")


@every_client
@streaming_or_not
def test_silence_lasts_until_the_client_gives_up(client: Client, stream: bool) -> None:
    with WireServer() as server:
        server.script(faults.silence())
        error = client.ask(server, stream=stream, timeout=0.1).error
        assert isinstance(error, openai.APITimeoutError | anthropic.APITimeoutError)
        server.wait_until(lambda s: s.connections == 0)


@pytest.mark.parametrize(
    ("fault", "heard", "cause"),
    [
        (faults.cut_stream(2), ["one", " two"], BROKEN_CONNECTION),
        (faults.cut_stream(0), [], BROKEN_CONNECTION),
        (faults.cut_stream(99), ["one", " two", " three", " four"], BROKEN_CONNECTION),
        (faults.stalled_stream(2), ["one", " two"], TIMEOUT),
        (faults.stalled_stream(0), [], TIMEOUT),
        (faults.slow_first_token(60), [], TIMEOUT),
        (faults.slow_chunks(60), [], TIMEOUT),
        (faults.latency(60), [], TIMEOUT),
        (faults.malformed_chunk(1), ["one"], NOT_JSON),
        (faults.malformed_chunk(0), [], NOT_JSON),
    ],
    ids=repr,
)
@every_client
def test_a_stream_breaks_where_the_script_says(
    client: Client, fault: faults.Fault, heard: list[str], cause: tuple[type[Exception], ...]
) -> None:
    with WireServer(reply=REPLY) as server:
        server.script(fault)
        result = client.ask(server, stream=True, timeout=0.2 if cause is TIMEOUT else 10)
    assert result.pieces == heard
    assert result.finish is None
    assert caused_by(result.error, cause), repr(result.error)


@every_client
def test_a_stream_without_an_end_mark_ends_quietly(client: Client) -> None:
    """The trap: no error, and only the missing finish reason shows that it is incomplete."""
    with WireServer(reply=REPLY) as server:
        server.script(faults.missing_end())
        heard = client.ask(server, stream=True)
    assert heard.error is None
    assert heard.text == REPLY
    assert heard.finish is None


@every_client
def test_an_error_in_the_middle_of_a_stream(client: Client) -> None:
    with WireServer(reply=REPLY) as server:
        server.script(faults.stream_error(2, status=529, message="Busy."))
        heard = client.ask(server, stream=True)
    assert heard.pieces == ["one", " two"]
    assert isinstance(heard.error, openai.APIError | anthropic.APIStatusError)
    assert "Busy." in str(heard.error)
    if isinstance(heard.error, anthropic.APIStatusError):
        assert heard.error.status_code == 200, "the status line had been sent long before"
        assert "overloaded_error" in json.dumps(heard.error.body)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (faults.malformed_body(), NOT_JSON),
        (faults.malformed_chunk(), NOT_JSON),
        (faults.missing_end(), NOT_JSON),
        (faults.cut_stream(), BROKEN_CONNECTION),
        (faults.cut_stream(reset=True), BROKEN_CONNECTION),
        (faults.stalled_stream(), TIMEOUT),
        (faults.slow_first_token(60), TIMEOUT),
        (faults.slow_chunks(60), TIMEOUT),
        (faults.latency(60), TIMEOUT),
    ],
    ids=repr,
)
@every_client
def test_stream_faults_also_apply_to_complete_answers(
    client: Client, fault: faults.Fault, cause: tuple[type[Exception], ...]
) -> None:
    with WireServer(reply=REPLY) as server:
        server.script(fault)
        heard = client.ask(server, stream=False, timeout=0.2 if cause is TIMEOUT else 10)
    assert heard.text == ""
    assert caused_by(heard.error, cause), repr(heard.error)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_an_error_inside_a_200_without_streaming(provider: str) -> None:
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}[provider]
    with WireServer() as server, httpx2.Client() as client:
        server.script(faults.stream_error(status=529))
        answer = client.post(server.url + path, json=ASKED)
    assert answer.status_code == 200
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "fault",
    [
        faults.latency(0.001),
        faults.latency(0.001, REPLY),
        faults.latency(0.001, Response(REPLY)),
        faults.slow_first_token(0.001),
        faults.slow_chunks(0.001, reply=REPLY),
        faults.trickle(0.0),
    ],
    ids=repr,
)
@every_client
@streaming_or_not
def test_a_slow_answer_is_correct(client: Client, stream: bool, fault: faults.Fault) -> None:
    with WireServer(reply=REPLY) as server:
        server.script(fault)
        heard = client.ask(server, stream=stream)
    assert (heard.error, heard.text) == (None, REPLY)
    assert heard.finish in {"stop", "end_turn"}


def test_a_delay_can_end_in_another_fault() -> None:
    with WireServer() as server:
        server.script(faults.latency(0.001, faults.latency(0.001, faults.status(503))))
        error = Client("openai", "sync").ask(server, stream=False).error
    assert isinstance(error, openai.InternalServerError)


@every_client
def test_a_fault_may_have_its_own_answer(client: Client) -> None:
    with WireServer(reply="unused") as server:
        server.script(faults.cut_stream(1, reply="alpha beta"))
        assert client.ask(server, stream=True).pieces == ["alpha"]


@pytest.mark.parametrize("fault", EVERY_FAULT, ids=repr)
def test_a_fault_is_a_plain_value(fault: faults.Fault) -> None:
    assert pickle.loads(pickle.dumps(fault)) == fault
    assert hash(fault) == hash(pickle.loads(pickle.dumps(fault)))
    assert repr(fault).startswith(f"{type(fault).__name__}(")
    with pytest.raises(AttributeError):
        fault.code = 200  # type: ignore[attr-defined]


def test_every_kind_of_fault_is_tested_here() -> None:
    roots = {faults.Fault, faults.StreamFault, faults.BrokenStream}
    kinds = {v for v in vars(faults).values() if isinstance(v, type)} - {Response}
    assert kinds - roots == {type(fault) for fault in EVERY_FAULT}


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (faults.status, {"code": 200}),
        (faults.stream_error, {"status": 200}),
        (faults.stream_error, {"after": -1}),
        (faults.cut_stream, {"after": -1}),
        (faults.latency, {"seconds": float("nan")}),
        (faults.slow_chunks, {"seconds": float("inf")}),
    ],
)
def test_a_fault_out_of_range_is_rejected(make: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        make(**arguments)
