"""Events are decoded as botocore decodes them, wherever the packets end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import botocore.session
import pytest
from botocore.eventstream import EventStream, ParserError
from botocore.exceptions import EventStreamError
from botocore.parsers import EventStreamJSONParser, ResponseParserError
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import InvalidResponseError
from agentkit.providers.bedrock.events import UNREADABLE, EventReader
from agentkit.providers.bedrock.frames import EventDecoder, EventParser
from agentkit.testing.wire.bedrock import event, frame

OPERATION = (
    botocore.session.Session()
    .get_service_model("bedrock-runtime")
    .operation_model("ConverseStream")
)
SHAPE = OPERATION.output_shape.members["stream"]


def delta(delta: Any, **more: Any) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=0, delta=delta, **more)


def of_kind(**headers: str) -> bytes:
    named = {f":{name.replace('_', '-')}": value for name, value in headers.items()}
    return frame(named, b'{"message": "no"}')


TEXT = delta({"text": " token"})
FRAMES = (
    TEXT,
    TEXT,
    TEXT,
    delta({"text": "Zürich \N{SNOWMAN} \ud800".encode("utf-8", "surrogatepass").decode("latin-1")}),
    delta({"text": "padded"}, p="abcdefghij"),
    delta({"text": "more"}, contentBlockKind="to come"),
    delta({"text": "", "citation": {"title": "t"}}),
    delta({"text": None}),
    delta({"toolUse": {"input": '{"a"'}}),
    delta({"reasoningContent": {"redactedContent": "aGlkZGVu"}}),
    delta({"somethingNew": 1}),
    event("contentBlockDelta", contentBlockIndex="0", delta={"text": "odd"}),
    event("contentBlockDelta", delta={"text": "without a number"}),
    event("messageStart", role="assistant"),
    event("somethingNew", value=1),
    *[event("metadata", usage={"inputTokens": 1, "outputTokens": 2, "totalTokens": 3})] * 2,
    event("metadata", usage={"inputTokens": "1", "new": 2}, metrics=None, p="abc"),
    event("metadata", usage=[]),
    *[event("contentBlockStart", contentBlockIndex=0, start={"toolUse": {"name": "f"}})] * 2,
    event("contentBlockStart", contentBlockIndex=1.5, start={"somethingNew": {}}),
    event("contentBlockStop", contentBlockIndex=0, p="abcdefgh"),
    *[event("messageStop", stopReason="end_turn")] * 2,
    event("messageStop", stopReason=1, additionalModelResponseFields={"a": [None]}),
    TEXT[:-1] + bytes([TEXT[-1] ^ 1]),
    TEXT[:40] + bytes([TEXT[40] ^ 1]) + TEXT[41:],
    of_kind(message_type="exception", exception_type="throttlingException"),
    of_kind(message_type="event", event_type="contentBlockDelta"),
    b"another protocol, not a frame",
)


ERRORS = (
    *(ParserError, EventStreamError, ResponseParserError),
    *(ValueError, TypeError, AttributeError, KeyError),
)


class _Raw:
    """In the place of a body, with `chunks`."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def stream(self) -> Iterator[bytes]:
        yield from self._chunks


def decoded(decoder: EventDecoder, chunks: list[bytes]) -> Iterator[Any]:
    for chunk in chunks:
        yield from decoder.feed(chunk)
        if decoder.error is not None:
            raise decoder.error


def outcome(events: Iterator[Any]) -> tuple[list[Any], Any]:
    """The events, and the error that ended them."""
    found: list[Any] = []
    try:
        found.extend(events)
    except ERRORS as error:
        return found, (type(error), getattr(error, "response", None))
    return found, None


@given(frames=st.lists(st.sampled_from(FRAMES), max_size=8), cuts=st.lists(st.integers(1, 400)))
def test_every_stream_gives_what_botocore_gives(frames: list[bytes], cuts: list[int]) -> None:
    data = b"".join(frames)
    chunks, left = [], data
    for cut in cuts:
        chunks.append(left[:cut])
        left = left[cut:]
    chunks.append(left)
    expected = outcome(iter(EventStream(_Raw(chunks), SHAPE, EventStreamJSONParser(), "Any")))
    decoder = EventDecoder(EventParser(EventStreamJSONParser(), SHAPE, "Any"))
    assert outcome(decoded(decoder, chunks)) == expected


@pytest.mark.parametrize("times", [1, 2, 3])
def test_text_with_a_wrong_checksum_is_damaged_however_many_came_before(times: int) -> None:
    decoder = EventDecoder(EventParser(EventStreamJSONParser(), SHAPE, "Any"))
    assert len(decoder.feed(TEXT * times)) == times
    assert decoder.feed(TEXT[:-5] + b"!" + TEXT[-4:]) == []
    assert isinstance(decoder.error, ParserError)


@pytest.mark.parametrize("changed", [0, 255])
def test_text_with_any_changed_byte_is_refused_as_botocore_refuses_it(changed: int) -> None:
    parser = EventParser(EventStreamJSONParser(), SHAPE, "Any")
    for place, byte in enumerate(TEXT):
        if byte == changed:
            continue
        chunks = [TEXT, TEXT[:place] + bytes([changed]) + TEXT[place + 1 :]]
        expected = outcome(iter(EventStream(_Raw(chunks), SHAPE, EventStreamJSONParser(), "Any")))
        assert outcome(decoded(EventDecoder(parser), chunks)) == expected


READ: list[dict[str, Any]] = [
    {"messageStart": {"role": "assistant"}},
    {"contentBlockStart": {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t"}}}},
    {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "one"}}},
    {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": ""}}},
    {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"text": " two"}}},
    {"contentBlockDelta": {"delta": {"text": "three"}}},
    {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {}}},
    {"contentBlockDelta": {"contentBlockIndex": 0}},
    {"contentBlockDelta": {"contentBlockIndex": 3, "delta": {"reasoningContent": {"text": "r"}}}},
    {"contentBlockStop": {"contentBlockIndex": 0}},
    {"messageStop": {"stopReason": "end_turn"}},
    {"metadata": {"usage": {"inputTokens": 1}}},
]
TEXTS = st.sampled_from([READ[2], READ[4]])


@given(
    begun=st.booleans(),
    together=st.lists(st.lists(st.one_of(TEXTS, st.sampled_from(READ)), max_size=6), max_size=4),
    trims=st.booleans(),
)
def test_events_read_together_are_those_read_one_by_one(
    begun: bool, together: list[list[dict[str, Any]]], trims: bool
) -> None:
    together = [[READ[0]], *together] if begun else together
    one, other = (EventReader("m", origin="o", trims_start=trims) for _ in range(2))
    expected = read_to_the_end(one, one.read(chain.from_iterable(together)))
    assert read_to_the_end(other, read_in_lists(other, together)) == expected


def read_in_lists(reader: EventReader, together: list[list[dict[str, Any]]]) -> Iterator[Any]:
    for each in together:
        yield from reader.read_list(each)
        if isinstance(reader.error, UNREADABLE):
            raise reader.unreadable()
        if reader.error is not None:
            raise reader.error


def read_to_the_end(reader: EventReader, events: Iterator[Any]) -> tuple[list[Any], Any]:
    """The events with that at the end, and the error."""
    found: list[Any] = []
    try:
        found += events
        found += reader.end("id")
    except InvalidResponseError as error:
        return [(each, getattr(each, "raw", None)) for each in found], str(error)
    return [(each, getattr(each, "raw", None)) for each in found], None
