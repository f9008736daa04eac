"""Servers that lie, stop or send too much: each is an error, none becomes an answer."""

from __future__ import annotations

import gzip
import logging
import traceback
import zlib
from itertools import cycle
from typing import Any

import pytest

from agentkit import InvalidRequestError, InvalidResponseError, NetworkError, ProviderTimeoutError
from agentkit.providers.transport import size_limit
from agentkit.providers.transport.http.failures import HttpConnectionError
from tests.providers.transport.servers import (
    ANSWER,
    CHUNK,
    DONE,
    KEY,
    LAST,
    Link,
    answering,
    answering_once,
    asking,
    calling,
    chunked,
    complete_and_stream,
    either_way,
    http,
    native,
    serving,
)

pytestmark = pytest.mark.wire
NESTED = b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    "response", [http(b"{}"), b"".join(chunked(b"{", b"}"))], ids=["length", "chunks"]
)
@either_way
def test_a_response_cut_anywhere_is_a_broken_connection(way: str, response: bytes) -> None:
    ends = iter(range(len(response)))

    def talk(link: Link) -> None:
        link.request()
        link.send(response[: next(ends)])

    with serving(talk) as server, calling(way, server.url) as caller:
        for _ in range(len(response)):
            with pytest.raises(HttpConnectionError):
                caller.post()
        assert server.accepted == len(response)


@either_way
def test_a_length_that_is_too_short_never_fills_the_next_answer(way: str) -> None:
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" + ANSWER
    with serving(answering(short)) as server, asking(way, native(server.url)) as asker:
        for _ in range(2):
            assert isinstance(asker.error(), InvalidResponseError)
        assert server.accepted == 2


@either_way
def test_a_length_that_is_too_long_ends_with_the_time_limit(way: str) -> None:
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + ANSWER
    with serving(answering(long)) as server:
        with asking(way, native(server.url)) as asker:
            assert isinstance(asker.error(timeout=0.05), ProviderTimeoutError)
        server.wait_until_all_left()


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1_000_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: 1\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + http(ANSWER),
        http(b"\xff\xfe not UTF-8"),
        http(b'{"choices": "\xff"}'),
        http(b"[]"),
        http(NESTED),
        http(ANSWER, "Content-Encoding: br"),
        http(ANSWER, "Content-Encoding: gzip"),
    ],
    ids=[
        "another protocol",
        "1 MB header",
        "1 MB of headers",
        "only promises",
        "not text",
        "invalid UTF-8",
        "no object",
        "too many levels",
        "unknown compression",
        "not compressed",
    ],
)
@complete_and_stream
@either_way
def test_what_cannot_be_read_is_an_invalid_response(
    way: str, stream: bool, response: bytes
) -> None:
    if stream and response == http(b"[]"):
        response = http(b"data: []\n\n")
    if stream and response == http(NESTED):
        response = http(b"data: " + NESTED + b"\n\n")
    if stream and b"\xff" in response:
        response = http(b'data: {"choices": "\xff"}\n\n')
    with serving(answering(response)) as server:
        with asking(way, native(server.url)) as asker:
            assert isinstance(asker.error(stream=stream), InvalidResponseError)
        server.wait_until_all_left()


@either_way
def test_interim_responses_are_skipped(way: str) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with serving(answering(interim, http(ANSWER))) as server:
        with asking(way, native(server.url)) as asker:
            assert [asker.ask(), asker.ask()] == ["Paris"] * 2
        assert server.accepted == 1


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
@complete_and_stream
@either_way
def test_a_compressed_bomb_is_refused(
    way: str, stream: bool, compress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_limit, "LARGEST", 100_000)
    name = "gzip" if compress is gzip.compress else "deflate"
    bomb = http(compress(b" " * 10_000_000), f"Content-Encoding: {name}")
    with serving(answering(bomb)) as server:
        with asking(way, native(server.url)) as asker:
            error = asker.error(stream=stream)
        server.wait_until_all_left()
    assert isinstance(error, InvalidResponseError)
    assert "more than 100000 bytes" in str(error)


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
@complete_and_stream
@either_way
def test_a_compressed_answer_is_read(way: str, stream: bool, compress: Any) -> None:
    name = "gzip" if compress is gzip.compress else "deflate"
    body = CHUNK + LAST + DONE if stream else ANSWER
    response = http(compress(body), f"content-encoding: {name.upper()}")
    with serving(answering(response)) as server, asking(way, native(server.url)) as asker:
        assert asker.ask(stream=stream) == "Paris"


def test_white_space_after_the_mark_at_the_end_of_a_stream_is_ignored() -> None:
    body = http(CHUNK + LAST + DONE.replace(b"\n\n", b" \n\n"))
    with serving(answering(body)) as server, asking("sync", native(server.url)) as asker:
        assert asker.ask(stream=True) == "Paris"


@either_way
def test_a_stream_without_its_end_is_a_broken_connection(way: str) -> None:
    pieces = chunked(CHUNK, CHUNK)[:-1]
    with serving(answering_once(*pieces)) as server, asking(way, native(server.url)) as asker:
        assert isinstance(asker.error(stream=True), NetworkError)


@complete_and_stream
@either_way
def test_a_key_is_in_no_error_log_or_repr(
    way: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    faults = cycle([http(b"{}", status="401 Unauthorized"), b"nonsense\r\n", b""])

    def talk(link: Link) -> None:
        link.request()
        link.send(next(faults))

    with serving(talk) as server, asking(way, native(server.url)) as asker:
        errors = [asker.error(stream=stream) for _ in range(3)]
        errors.append(asker.error(stream=stream, extra_headers={"X-Id": "€"}))
        assert isinstance(errors[-1], InvalidRequestError)
        shown = [repr(asker.adapter), repr(asker.adapter.make_transport())]
    for error in errors:
        shown += traceback.format_exception(error)
        cause: BaseException | None = error
        while cause is not None:
            shown += [repr(cause), repr(vars(cause))]
            cause = cause.__cause__ or cause.__context__
    assert KEY not in caplog.text + "".join(shown)
