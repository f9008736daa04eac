"""Event streams as google-genai gets them: plain data lines, however the packets are cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentkit.providers.google.stream import plain_events

STREAM = "\ufeff: hello\ndata:{one}\r\rid: 7\ndata: {zwei: 🦊}\r\ndata:  x\n\nretry: 5\ndata: end"
PLAIN = "data: {one}\n\ndata: {zwei: 🦊}\ndata:  x\n\ndata: end\n"


class Reply:
    """As much of an HTTP response as is looked at."""

    def __init__(self, pieces: list[bytes], content_type: str = "text/event-stream") -> None:
        self.headers = {"content-type": content_type}
        self._pieces = pieces
        self.iter_bytes: Any = self._iter
        self.aiter_bytes: Any = self._aiter

    def _iter(self) -> Iterator[bytes]:
        yield from self._pieces

    async def _aiter(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


def read(reply: Reply) -> bytes:
    plain_events(reply)
    return b"".join(reply.iter_bytes())


async def aread(reply: Reply) -> bytes:
    plain_events(reply)
    return b"".join([each async for each in reply.aiter_bytes()])


@example(places=[126, 126])  # an empty chunk
@given(st.lists(st.integers(0, 200)))
def test_wherever_the_packets_end_the_lines_are_the_same(places: list[int]) -> None:
    pieces = cut(STREAM.encode(), places)
    assert read(Reply(pieces)).decode() == PLAIN
    assert asyncio.run(aread(Reply(pieces))).decode() == PLAIN


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_an_event_is_handed_on_as_soon_as_its_blank_line_is_there(end: bytes) -> None:
    reply = Reply([b"data: 1" + end, b"data: 2" + end])
    plain_events(reply)
    assert next(reply.iter_bytes()) == b"data: 1\n\n"


def test_what_is_no_event_stream_is_left_alone() -> None:
    assert read(Reply([b'{"error":', b" 1}\n"], "application/json")) == b'{"error": 1}\n'
