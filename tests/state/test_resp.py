"""Replies are the same in whatever pieces their bytes arrive; anything else is noticed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.state.resp import MISSING, ProtocolError, Replies, ReplyError, pack

VALUES = st.recursive(
    st.none() | st.integers(-(2**62), 2**62) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


def as_bytes(value: Any) -> bytes:
    """`value` as a server sends it."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"*%d\r\n%b" % (len(value), b"".join(map(as_bytes, value)))


def taken(replies: Replies) -> list[Any]:
    found = []
    while (reply := replies.take()) is not MISSING:
        found.append(reply)
    return found


@given(st.lists(VALUES, max_size=5), st.lists(st.integers(0, 400), max_size=6))
def test_replies_do_not_depend_on_the_pieces_in_which_they_arrive(
    values: list[Any], cuts: list[int]
) -> None:
    data = b"".join(map(as_bytes, values))
    replies, found, begin = Replies(), [], 0
    for cut in [*sorted(cuts), len(data)]:
        replies.feed(data[begin:cut])
        found += taken(replies)
        begin = max(begin, cut)
    assert found == values


@given(st.lists(st.text() | st.binary() | st.integers(), min_size=1, max_size=6))
def test_a_command_is_an_array_of_texts(command: list[Any]) -> None:
    replies = Replies()
    replies.feed(pack(command))
    assert taken(replies) == [
        [each if isinstance(each, bytes) else str(each).encode() for each in command]
    ]


def test_other_replies() -> None:
    replies = Replies()
    replies.feed(b"+OK\r\n*-1\r\n-OOM no memory\r\n-ERR wrong\r\n-Odd one\r\n")
    ok, nothing, *errors = taken(replies)
    assert (ok, nothing) == (b"OK", None)
    assert all(isinstance(each, ReplyError) for each in errors)
    assert [each.kind for each in errors] == ["OutOfMemoryError", "ERR", "ReplyError"]


@pytest.mark.parametrize("data", [b"HTTP/1.1 400\r\n", b"$1\r\nlong\r\n", b":x\r\n", b"$x\r\n"])
def test_other_bytes_make_the_connection_unusable(data: bytes) -> None:
    replies = Replies()
    replies.feed(data)
    with pytest.raises(ProtocolError):
        replies.take()
