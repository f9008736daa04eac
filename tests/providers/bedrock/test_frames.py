"""Answers that no service should send: each is an error of our tree, never a short answer."""

from __future__ import annotations

import json
import struct
from binascii import crc32

import pytest

from agentkit import errors as e
from agentkit.testing.wire.bedrock import event, frame
from tests.providers.bedrock.wired import (
    MODES,
    ask,
    clients_at,
    details_of,
    given,
    manager,
    target,
)
from tests.providers.raw import serving

pytestmark = [pytest.mark.wire, pytest.mark.usefixtures("transport")]

EVENT_STREAM = "application/vnd.amazon.eventstream"
START = event("messageStart", role="assistant")
STOP = event("messageStop", stopReason="end_turn")
USAGE = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
END = STOP + event("metadata", usage=USAGE, metrics={"latencyMs": 1})


def piece(text: str, index: int = 0) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=index, delta={"text": text})


modes = pytest.mark.parametrize("mode", MODES)


def changed(frame_: bytes, place: int) -> bytes:
    return frame_[:place] + bytes([frame_[place] ^ 1]) + frame_[place + 1 :]


def prelude(total: int, headers: int) -> bytes:
    lengths = struct.pack("!II", total, headers)
    return lengths + struct.pack("!I", crc32(lengths))


def packed(headers: bytes, payload: bytes = b"{}") -> bytes:
    """A frame with headers of any kind, and right checksums."""
    begun = prelude(len(headers) + len(payload) + 16, len(headers)) + headers + payload
    return begun + struct.pack("!I", crc32(begun))


HALF = piece("half")
USE = {"toolUseId": "t", "name": "f"}
TOOL = {"toolUse": {"input": "{}"}}
DAMAGED = {
    "wrong checksum of the message": START + changed(HALF, len(HALF) - 1) + END,
    "wrong checksum of the prelude": START + changed(HALF, 9) + END,
    "changed payload": START + changed(HALF, len(HALF) - 6) + END,
    "cut within a frame": START + HALF[: len(HALF) // 2],
    "cut within a prelude": START + HALF[:7],
    "a frame is missing its end": START + HALF[:-4] + END,
    "headers too long": START + prelude(200_000, 150_000) + b"x" * 1000,
    "longer than any frame may be": START + prelude(25 * 1024 * 1024 + 100, 50) + b"x" * 1000,
    "sixteen megabytes announced": START + prelude(16 * 1024 * 1024, 50) + b"x" * 1000,
    "shorter than its own prelude": START + prelude(4, 0) + END,
    "a header of no known kind": START + packed(b"\x01a\x63") + END,
    "a header that breaks off": START + packed(b"\x01a\x04\x00") + END,
    "a header twice": START + packed(b"\x01a\x00\x01a\x00") + END,
    "a header that is not UTF-8": START + packed(b"\x01a\x07\x00\x02\xff\xfe") + END,
    "a payload that is not JSON": START
    + frame({":message-type": "event", ":event-type": "contentBlockDelta"}, b"not json")
    + END,
    "a payload of another kind": START
    + frame({":message-type": "event", ":event-type": "contentBlockDelta"}, b"[1, 2]")
    + END,
    "an exception without a name": START + frame({":message-type": "exception"}),
    "an unknown exception": START
    + frame({":message-type": "exception", ":exception-type": "surpriseException"}, b"{}"),
    "an unknown error": START + frame({":message-type": "error", ":error-code": "Surprise"}),
    "no messageStart": HALF + END,
    "two beginnings": START + START + END,
    "content after the end": START + STOP + HALF + END,
    "two ends": START + STOP + END,
    "arguments without a tool": START
    + event("contentBlockDelta", contentBlockIndex=1, delta=TOOL)
    + END,
    "arguments that are not JSON": START
    + event("contentBlockStart", contentBlockIndex=0, start={"toolUse": USE})
    + event("contentBlockDelta", contentBlockIndex=0, delta={"toolUse": {"input": '{"a'}})
    + END,
    "a malformed tool call": START + event("messageStop", stopReason="malformed_tool_use"),
    "nothing at all": b"",
    "nothing but its beginning": START,
    "no event stream": b'{"message": "a proxy was here"}' * 4,
}


@modes
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_frame_is_an_error_of_our_tree(damage: str, mode: str) -> None:
    with (
        serving(EVENT_STREAM, DAMAGED[damage]) as server,
        clients_at(server.url.removesuffix("/v1")) as clients,
        manager(target(clients)) as llm,
        pytest.raises(e.InvalidResponseError),
    ):
        ask(llm, mode, stream=True)


def test_an_event_of_a_kind_to_come_is_passed_over() -> None:
    later = event("somethingNew", value=1)
    with (
        serving(EVENT_STREAM, START + later + piece("fine") + later + END) as server,
        clients_at(server.url.removesuffix("/v1")) as clients,
        manager(target(clients)) as llm,
    ):
        assert ask(llm, "sync", stream=True).text == "fine"


@modes
def test_a_frame_of_sixteen_megabytes_is_an_answer(mode: str) -> None:
    long = "x" * (16 * 1024 * 1024)
    with (
        serving(EVENT_STREAM, START + piece(long) + END) as server,
        clients_at(server.url.removesuffix("/v1")) as clients,
        manager(target(clients)) as llm,
    ):
        assert ask(llm, mode, stream=True).text == long


COMPLETE = {
    "no JSON": b"<html>",
    "nothing": b"",
    "another object": b'{"hello": 1}',
    "no message": b'{"output": {}, "stopReason": "end_turn"}',
    "a malformed tool call": json.dumps(
        {
            "output": {"message": {"role": "assistant", "content": []}},
            "stopReason": "malformed_tool_use",
        }
    ).encode(),
}


@modes
@pytest.mark.parametrize("body", COMPLETE)
def test_an_invalid_complete_answer_is_an_error_of_our_tree(body: str, mode: str) -> None:
    with (
        serving("application/json", COMPLETE[body]) as server,
        clients_at(server.url.removesuffix("/v1")) as clients,
        manager(target(clients)) as llm,
        pytest.raises(e.InvalidResponseError) as raised,
    ):
        ask(llm, mode, **given())
    (details,) = details_of(raised.value)
    assert details is not None
    assert isinstance(details["error"], e.InvalidResponseError)
