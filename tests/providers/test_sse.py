"""Event streams as the SDKs get them: without what they misread, wherever the packets end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentkit.providers.sse import keep_data_lines, remove_byte_order_mark

MARK = b"\xef\xbb\xbf"


STREAM = "\ufeff: hello\ndata:{one}\r\rid: 7\ndata: {zwei: 🦊}\r\ndata:  x\n\nretry: 5\ndata: end"
DATA_LINES = "data: {one}\n\ndata: {zwei: 🦊}\ndata:  x\n\ndata: end\n"


class HttpResponse:
    """The part of an HTTP client's response that the filters use."""

    def __init__(self, chunks: list[bytes], content_type: str = "text/event-stream") -> None:
        self.headers = {"content-type": content_type}
        self._chunks = chunks
        self.iter_bytes: Any = self._iter
        self.aiter_bytes: Any = self._aiter

    def _iter(self) -> Iterator[bytes]:
        yield from self._chunks

    async def _aiter(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def read(response: HttpResponse, repair: Callable[[Any], None], way: str) -> bytes:
    repair(response)
    if way == "sync":
        return b"".join(response.iter_bytes())

    async def main() -> bytes:
        return b"".join([chunk async for chunk in response.aiter_bytes()])

    return asyncio.run(main())


def without_mark(chunks: list[bytes], way: str) -> bytes:
    return read(HttpResponse(chunks), remove_byte_order_mark, way)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


both_ways = pytest.mark.parametrize("way", ["sync", "async"])


@both_ways
@given(marked=st.booleans(), chunks=st.lists(st.binary(min_size=1, max_size=5), max_size=5))
def test_everything_after_the_mark_arrives(way: str, marked: bool, chunks: list[bytes]) -> None:
    sent = b"".join(chunks)
    expected = sent if marked else sent.removeprefix(MARK)
    assert without_mark([*([MARK] if marked else []), *chunks], way) == expected


@both_ways
@pytest.mark.parametrize("text", [MARK + b"data: 1", MARK, b"data: 1", MARK[:2], b""])
def test_the_mark_may_come_in_pieces(text: bytes, way: str) -> None:
    assert without_mark([bytes([byte]) for byte in text], way) == text.removeprefix(MARK)


@both_ways
def test_only_the_first_mark_is_removed(way: str) -> None:
    assert without_mark([MARK + b"a" + MARK, MARK], way) == b"a" + MARK + MARK


@both_ways
@example(places=[126, 126])  # an empty chunk
@given(places=st.lists(st.integers(0, 200)))
def test_the_data_lines_are_the_same_wherever_the_packets_end(way: str, places: list[int]) -> None:
    response = HttpResponse(cut(STREAM.encode(), places))
    assert read(response, keep_data_lines, way).decode() == DATA_LINES


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_an_event_is_passed_on_as_soon_as_its_blank_line_arrives(end: bytes) -> None:
    response = HttpResponse([b"data: 1" + end, b"data: 2" + end])
    keep_data_lines(response)
    assert next(response.iter_bytes()) == b"data: 1\n\n"


def test_other_content_types_are_left_alone() -> None:
    response = HttpResponse([b'{"error":', b" 1}\n"], "application/json")
    assert read(response, keep_data_lines, "sync") == b'{"error": 1}\n'
