"""The events of one stream, decoded as its bytes arrive.

botocore decodes the first event of each kind, and each one with a value that is unusual. It would
take two thirds of what an event costs. The headers of the others are those of an event before.

Source: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Callable, Iterator
from functools import partial
from struct import Struct
from typing import Any, Final, TypedDict

from agentkit.providers.bedrock.shapes import reader
from agentkit.providers.transport.http.record import typed_parser

_PRELUDE: Final = Struct("!III")
"""The length of the frame, that of its headers, and the checksum of both."""
_CHECKSUM: Final = Struct("!I")
_SMALLEST: Final = _PRELUDE.size + _CHECKSUM.size
_MOST_HEADERS: Final = 16
_TEXT: Final = "contentBlockDelta"


class _TextDelta(TypedDict):
    """The payload of an event that may be a piece of text, without members to come."""

    delta: dict[str, str]
    contentBlockIndex: int


class EventParser:
    """Parses the frames of one operation, as botocore does; for any number of streams.

    Args:
        parser: botocore's parser of events.
        shape: of the events.
        operation: its name.
    """

    def __init__(self, parser: Any, shape: Any, operation: str) -> None:
        self._parser = parser
        self._shape = shape
        self._operation = operation
        self._readers = {name: reader(each) for name, each in shape.members.items()}
        self.kinds: dict[bytes, Callable[[bytes], dict[str, Any] | None]] = {}
        """By the headers of frames, what reads the payload of their event.

        It returns None for a payload that `parse` has to read.
        """
        self._parse_text = typed_parser(_TextDelta)
        self._parse_json = typed_parser(Any)

    def parse(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The events in `data`, one frame or what looks like one.

        Raises:
            botocore.exceptions.EventStreamError: the service reports an error.
            botocore.eventstream.ParserError: a frame is damaged.
        """
        from botocore.eventstream import EventStreamBuffer
        from botocore.exceptions import EventStreamError

        buffer = EventStreamBuffer()
        buffer.add_data(data)
        for message in buffer:
            response = message.to_response_dict()
            parsed = self._parser.parse(response, self._shape)
            if response["status_code"] != 200:
                raise EventStreamError(parsed, self._operation)
            if parsed:
                if len(self.kinds) < _MOST_HEADERS:
                    (name,) = parsed
                    headers = data[_PRELUDE.size : message.prelude.headers_end]
                    self.kinds[headers] = (
                        self._text if name == _TEXT else partial(self._event, name)
                    )
                yield parsed

    def _text(self, payload: bytes) -> dict[str, Any] | None:
        """The event of a piece of text, or of another kind of delta."""
        try:
            found: dict[str, Any] = self._parse_text(payload)
            delta = found["delta"]
            if "text" in delta and len(delta) == 1:
                return {_TEXT: found}
        except ValueError:
            pass
        return self._event(_TEXT, payload)

    def _event(self, name: str, payload: bytes) -> dict[str, Any] | None:
        try:
            return {name: self._readers[name](self._parse_json(payload))}
        except ValueError:
            return None


class EventDecoder:
    """Decodes the events of one stream as its bytes arrive."""

    __slots__ = ("_incomplete", "_parser", "error")

    def __init__(self, parser: EventParser) -> None:
        self._parser = parser
        self._incomplete = b""
        self.error: Exception | None = None
        """What `EventParser.parse` raised, to be raised after the events before it."""

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The events that `chunk` completes, up to the fault that is kept in `error`."""
        data = self._incomplete + chunk if self._incomplete else chunk
        events: list[dict[str, Any]] = []
        try:
            self._incomplete = data[self._decode(data, events) :]
        except Exception as fault:  # noqa: BLE001 - raised after the events before it
            self.error = fault
        return events

    def _decode(self, data: bytes, events: list[dict[str, Any]]) -> int:
        """Adds the complete events of `data` to `events`. Returns where the next one begins."""
        parser = self._parser
        begin, size = 0, len(data)
        while size - begin >= _PRELUDE.size:
            length, headers, checksum = _PRELUDE.unpack_from(data, begin)
            end = begin + length
            payload, tail = begin + _PRELUDE.size + headers, end - _CHECKSUM.size
            event = None
            if payload <= tail and end <= size:
                read = parser.kinds.get(data[begin + _PRELUDE.size : payload])
                if read is not None:
                    # The checksum of a frame continues that of its prelude, and so proves both.
                    found = crc32(data[begin + 8 : tail], checksum)
                    if found == _CHECKSUM.unpack_from(data, tail)[0]:
                        event = read(data[payload:tail])
            if event is not None:
                events.append(event)
            else:
                valid = length >= _SMALLEST and crc32(data[begin : begin + 8]) == checksum
                if not valid or end > size:
                    # botocore refuses an impossible prelude before the rest has arrived.
                    shown = data[begin:] if not valid else data[begin : begin + _PRELUDE.size]
                    events.extend(parser.parse(shown))
                    break
                events.extend(parser.parse(data[begin:end]))
            begin = end
        return begin
