"""The events of one stream, decoded as its bytes arrive.

botocore decodes the first event of each kind, and each one with a value that is unusual. It would
take two thirds of what an event costs. The headers of the others are those of an event before.

Source: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterator
from functools import cache
from struct import Struct
from typing import Any, Final

from agentkit.providers.bedrock.shapes import Read, reader
from agentkit.providers.transport.http.record import typed_parser

_PRELUDE: Final = Struct("!III")
"""The length of the frame, that of its headers, and the checksum of both."""
_CHECKSUM: Final = Struct("!I")
_SMALLEST: Final = _PRELUDE.size + _CHECKSUM.size
_MOST_HEADERS: Final = 16
_TEXT: Final = "contentBlockDelta"


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
        self._kinds: dict[bytes, tuple[str, Read]] = {}
        """By the headers of frames, the name of their event and what reads it."""
        self._parse_text = typed_parser(_text_type())
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
                if len(self._kinds) < _MOST_HEADERS:
                    (name,) = parsed
                    headers = data[_PRELUDE.size : message.prelude.headers_end]
                    self._kinds[headers] = name, self._readers[name]
                yield parsed

    def known_event(self, frame: bytes, headers_end: int) -> dict[str, Any] | None:
        """The event of `frame`; None: `parse` has to read it."""
        kind = self._kinds.get(frame[_PRELUDE.size : headers_end])
        if kind is None:
            return None
        end = len(frame) - _CHECKSUM.size
        if crc32(frame[:end]) != _CHECKSUM.unpack_from(frame, end)[0]:
            return None
        name, read = kind
        payload = frame[headers_end:end]
        if name == _TEXT:
            try:
                found = self._parse_text(payload)
            except ValueError:
                pass  # another kind of delta
            else:
                index = found.contentBlockIndex
                return {_TEXT: {"delta": {"text": found.delta.text}, "contentBlockIndex": index}}
        try:
            return {name: read(self._parse_json(payload))}
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
        events: list[dict[str, Any]] = []
        try:
            self._decode(self._incomplete + chunk, events)
        except Exception as fault:  # noqa: BLE001 - raised after the events before it
            self.error = fault
        return events

    def _decode(self, data: bytes, events: list[dict[str, Any]]) -> None:
        parser = self._parser
        begin, size = 0, len(data)
        while size - begin >= _PRELUDE.size:
            length, headers, checksum = _PRELUDE.unpack_from(data, begin)
            end = begin + length
            valid = length >= _SMALLEST and crc32(data[begin : begin + 8]) == checksum
            if not valid or end > size:
                # botocore refuses an impossible prelude before the rest has arrived.
                events.extend(parser.parse(data[begin:] if not valid else data[begin : begin + 12]))
                break
            frame = data[begin:end] if begin or end < size else data
            event = parser.known_event(frame, _PRELUDE.size + headers)
            if event is None:
                events.extend(parser.parse(frame))
            else:
                events.append(event)
            begin = end
        self._incomplete = data[begin:]


@cache
def _text_type() -> Any:
    """The payload of an event that is a piece of text and nothing else, with members to come."""
    from msgspec import Struct, defstruct

    text = defstruct("_Text", [("text", str)], forbid_unknown_fields=True, gc=False)
    fields = [("delta", text), ("contentBlockIndex", int)]
    return defstruct("_TextDelta", fields, bases=(Struct,), gc=False)
