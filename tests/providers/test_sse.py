"""A byte order mark before a stream's events takes no event away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.providers.sse import forget_mark

MARK = b"\xef\xbb\xbf"


class Answer:
    """What of an HTTP client's response is used."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    def iter_bytes(self) -> Iterator[bytes]:
        yield from self.chunks

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk


def read(chunks: list[bytes], colour: str) -> bytes:
    answer = Answer(chunks)
    forget_mark(answer)
    if colour == "blocking":
        return b"".join(answer.iter_bytes())

    async def main() -> bytes:
        return b"".join([chunk async for chunk in answer.aiter_bytes()])

    return asyncio.run(main())


colours = pytest.mark.parametrize("colour", ["blocking", "async"])


@colours
@given(marked=st.booleans(), chunks=st.lists(st.binary(min_size=1, max_size=5), max_size=5))
def test_all_but_a_mark_at_the_start_arrives(
    colour: str, marked: bool, chunks: list[bytes]
) -> None:
    whole = b"".join(chunks)
    if whole.startswith(MARK):
        whole = whole.removeprefix(MARK) if not marked else whole
    assert read([*([MARK] if marked else []), *chunks], colour) == whole


@colours
@pytest.mark.parametrize("text", [MARK + b"data: 1", MARK, b"data: 1", MARK[:2], b""])
def test_the_mark_may_come_in_pieces(text: bytes, colour: str) -> None:
    assert read([bytes([byte]) for byte in text], colour) == text.removeprefix(MARK)


@colours
def test_only_the_first_mark_is_left_out(colour: str) -> None:
    assert read([MARK + b"a" + MARK, MARK], colour) == b"a" + MARK + MARK
