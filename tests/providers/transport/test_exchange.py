"""An HTTP exchange gives the same response wherever the packets end, and trusts nothing else."""

from __future__ import annotations

import gc
import gzip
import tracemalloc
import weakref
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import InvalidResponseError
from agentkit.providers.transport.http.body import BodyDecoder, EventParser, MalformedBodyError
from agentkit.providers.transport.http.exchange import LARGEST_HEAD, HttpExchange
from agentkit.providers.transport.http.failures import (
    IncompleteResponseError,
    MalformedResponseError,
    UnsendableHeaderError,
)
from agentkit.providers.transport.http.request_head import merge_headers, request_head

BODY = b'{"answer": "Paris"}'
WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Id: 7\r\n\r\n%s" % (len(BODY), BODY)
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Id: 7\r\n\r\n"
    b"4\r\n" + BODY[:4] + b"\r\nf\r\n" + BODY[4:] + b"\r\n0\r\n\r\n"
)
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\nX-Id: 7\r\n\r\n" + BODY
COMPLETE = st.sampled_from([WITH_LENGTH, CHUNKED])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % len(data) for cut in cuts})
    edges = [0, *places, len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


def fed(*parts: bytes) -> HttpExchange:
    exchange = HttpExchange()
    for part in parts:
        exchange.feed(part)
    return exchange


@given(COMPLETE, st.lists(st.integers(0, 1000)), st.integers(0, 3))
def test_a_response_is_the_same_wherever_the_packets_end(
    response: bytes, cuts: list[int], interim: int
) -> None:
    before = b"HTTP/1.1 100 Continue\r\nX-Id: 1\r\n\r\n" * interim
    exchange = fed(*pieces(before + response, cuts))
    assert (exchange.status, exchange.headers["x-id"]) == (200, "7")
    assert exchange.take() == BODY
    assert exchange.reusable


@given(COMPLETE, st.data())
def test_a_response_that_ends_early_anywhere_is_incomplete(
    response: bytes, data: st.DataObject
) -> None:
    end = data.draw(st.integers(0, len(response) - 1))
    exchange = fed(response[:end])
    assert not exchange.complete
    assert not exchange.reusable
    with pytest.raises(IncompleteResponseError):
        exchange.feed_end()


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    exchange = fed(UNTIL_CLOSED)
    before = exchange.complete
    exchange.feed_end()
    assert (before, exchange.complete) == (False, True)
    assert exchange.take() == BODY
    assert not exchange.reusable


@given(
    COMPLETE,
    COMPLETE | st.binary().filter(lambda data: data.strip(b"\r\n")),
    st.booleans(),
)
def test_what_follows_a_response_is_never_read_into_the_next_one(
    response: bytes, garbage: bytes, together: bool
) -> None:
    exchange = fed(response + garbage) if together else fed(response, garbage)
    assert exchange.complete
    assert exchange.take() == BODY
    assert not exchange.reusable


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n"],
)
def test_a_connection_that_will_be_closed_is_not_used_again(head: bytes) -> None:
    exchange = fed(head + b"Content-Length: 2\r\n\r\n{}")
    assert exchange.complete
    assert not exchange.reusable


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * LARGEST_HEAD,
        CHUNKED[:-2] + b"X-Long: " + b"x" * 2 * LARGEST_HEAD,
        CHUNKED[:-5] + b"5;" + b"x" * 2 * LARGEST_HEAD,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 104 Interim\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 099 Unknown\r\n\r\n{}",
    ],
    ids=[
        "another protocol",
        "two lengths",
        "no size of a chunk",
        "only promises",
        "endless head",
        "endless trailer",
        "endless extension",
        "two framings",
        "negative length",
        "another protocol later",
        "body of an interim response",
        "body without a status",
    ],
)
def test_what_is_not_http_is_malformed(response: bytes) -> None:
    with pytest.raises(MalformedResponseError):
        fed(*pieces(response, list(range(0, len(response), 1000))))


@pytest.mark.parametrize("callback", ["on_headers_complete", "on_body", "on_message_complete"])
def test_ctrl_c_in_a_callback_of_the_parser_is_not_lost(callback: str) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    exchange = type("Interrupted", (HttpExchange,), {callback: interrupted})()
    with pytest.raises(KeyboardInterrupt):
        exchange.feed(WITH_LENGTH)
    assert not exchange.reusable


class WatchedExchange(HttpExchange):
    """One with a place for weak references."""


@pytest.mark.parametrize("response", [WITH_LENGTH, CHUNKED, UNTIL_CLOSED])
def test_a_response_that_has_ended_leaves_nothing_to_the_garbage_collector(
    response: bytes,
) -> None:
    exchange = WatchedExchange()
    exchange.feed(response)
    if not exchange.complete:
        exchange.feed_end()
    watched = weakref.ref(exchange)
    gc.disable()
    try:
        del exchange
        assert watched() is None
    finally:
        gc.enable()


def test_a_trailer_changes_no_header() -> None:
    exchange = fed(CHUNKED[:-2] + b"X-Id: 8\r\nContent-Encoding: gzip\r\n\r\n")
    assert exchange.reusable
    assert exchange.headers == {"transfer-encoding": "chunked", "x-id": "7"}


@pytest.mark.parametrize("size", [1, 6, 1000])
def test_a_body_in_small_chunks_may_be_long(size: int) -> None:
    chunk = b"%x\r\n%s\r\n" % (size, b"x" * size)
    exchange = fed(CHUNKED[: CHUNKED.index(b"4\r\n")], *[chunk * 1000] * 100, b"0\r\n\r\n")
    assert exchange.reusable
    assert exchange.unread == 100_000 * size


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Id", "7\r\nX-Key: stolen"),
        ("X-Id", "7\nX-Key: stolen"),
        ("X-Id", "\0"),
        ("X-Id", "naïve €"),
        ("X-Id: 7\r\nX", "7"),
        ("", "7"),
        ("Content-Length", "7"),
        ("transfer-encoding", "chunked"),
    ],
)
def test_a_header_that_would_break_the_request_is_refused(name: str, value: str) -> None:
    with pytest.raises(UnsendableHeaderError) as caught:
        merge_headers({"Authorization": "Bearer secret"}, {name: value})
    assert "secret" not in repr(caught.value)
    assert "stolen" not in repr(caught.value)


def test_a_header_replaces_another_whatever_the_case() -> None:
    merged = merge_headers({"X-Id": "1", "Authorization": "a"}, {"authorization": "b"})
    assert merged == {"X-Id": "1", "authorization": "b"}
    head = request_head("/v1", "example.com", merge_headers(merged, {"host": "other"}))
    assert head.lower().count(b"host:") == 1


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", deflated), (None, bytes)],
)
@given(data=st.binary(min_size=1), cuts=st.lists(st.integers(0, 1000)))
def test_a_body_is_decompressed(
    encoding: str | None, compress: object, data: bytes, cuts: list[int]
) -> None:
    decoder = BodyDecoder(encoding)
    compressed = compress(data)  # type: ignore[operator]
    assert b"".join(decoder.feed(each) for each in pieces(compressed, cuts)) == data


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_refused_before_it_fills_the_memory(encoding: str) -> None:
    compress = gzip.compress if encoding == "gzip" else zlib.compress
    bomb = compress(bytes(80 * 1024 * 1024))
    assert len(bomb) < 100_000
    with pytest.raises(InvalidResponseError, match="more than"):
        BodyDecoder(encoding).feed(bomb)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_body_that_is_not_compressed_as_its_header_says_is_malformed(encoding: str) -> None:
    with pytest.raises(MalformedBodyError):
        BodyDecoder(encoding).feed(b"\xff not compressed")


EVENTS = [
    b"data: one\n\n",
    b": a comment\n\n",
    b"event: x\nid: 1\ndata:two\n\n",
    b"data: a\ndata: b\n\n",
]


@given(
    st.lists(st.sampled_from(EVENTS)),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.booleans(),
    st.lists(st.integers(0, 200)),
)
def test_events_are_the_same_wherever_the_packets_end(
    events: list[bytes], newline: bytes, mark: bool, cuts: list[int]
) -> None:
    text = b"".join([*events, b"data: the last\n\n"]).replace(b"\n", newline)
    text = (b"\xef\xbb\xbf" if mark else b"") + text
    parser = EventParser()
    found = [each for piece in pieces(text, cuts) for each in parser.feed(piece)]
    data = {EVENTS[0]: b"one", EVENTS[2]: b"two", EVENTS[3]: b"a\nb"}
    assert found == [*(data[each] for each in events if each in data), b"the last"]
    assert parser.feed(b"data: never ended") == []


def test_an_event_that_does_not_end_is_not_read_again_with_each_packet() -> None:
    parser = EventParser()
    packet = b"data: x\n" * 128
    for _ in range(1000):
        parser.feed(packet)
    tracemalloc.start()
    parser.feed(packet)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 16 * len(packet)
    assert len(parser.feed(b"\n")[0]) == 1001 * 128 * 2 - 1
