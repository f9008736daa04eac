"""Amazon Bedrock's Converse API as a wire protocol: JSON, and streams of binary frames.

A frame consists of its total length, the length of its headers, the checksum of both, the headers,
the payload, and the checksum of everything before it (AWS event stream encoding, big-endian,
CRC-32).
"""

from __future__ import annotations

import re
import struct
from binascii import crc32
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from agentkit.testing.faults import Status
from agentkit.testing.wire.protocol import Event, HttpResponse, RecordedRequest, halves, to_json
from agentkit.types import Response, ToolCall, Usage

_CALL = re.compile(r"/model/(?P<model>[^/]+)/converse(?P<stream>-stream)?")
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "content_filtered",
}

_ERRORS = {  # status: the exception's name, message
    400: ("ValidationException", "The request is not valid."),
    401: ("UnrecognizedClientException", "The security token in the request is invalid."),
    403: ("AccessDeniedException", "You don't have access to the model with that model ID."),
    404: ("ResourceNotFoundException", "Could not resolve the foundation model."),
    408: ("ModelTimeoutException", "The model took too long to answer."),
    424: ("ModelErrorException", "The model met an error."),
    429: ("ThrottlingException", "Too many requests, please wait before trying again."),
    500: ("InternalServerException", "The system met an unexpected error."),
    503: ("ServiceUnavailableException", "The service is not able to serve the request."),
}
_CLIENT_ERROR = ("UnknownClientException", "The request could not be served.")
_SERVER_ERROR = _ERRORS[500]
_IN_STREAM = {424: "ModelStreamErrorException"}

_TEXT = 7
_ENDS = struct.calcsize("!III") + struct.calcsize("!I")


class BedrockConverse:
    """The protocol of ``POST /model/<model>/converse`` and ``/converse-stream``."""

    name = "bedrock"
    stream_type = "application/vnd.amazon.eventstream"
    id_header = "x-amzn-requestid"

    def matches(self, method: str, path: str) -> bool:
        """Whether this is a call of Converse or ConverseStream."""
        return method == "POST" and _CALL.fullmatch(path) is not None

    def parse_call(self, path: str, body: Mapping[str, Any]) -> tuple[str, bool]:
        """Model (an id or an ARN) and streaming, both from the path."""
        found = _CALL.fullmatch(path)
        if found is None:
            return "", False
        return unquote(found["model"]), found["stream"] is not None

    def answer_other(self, method: str, path: str, models: Sequence[str]) -> HttpResponse | None:
        """None: this API has model calls only."""
        return None

    def encode_response(self, request: RecordedRequest, response: Response[Any]) -> HttpResponse:
        """A ``ConverseResponse`` object."""
        thought = {"reasoningText": {"text": response.reasoning, "signature": "signed"}}
        content: list[dict[str, Any]] = []
        if response.reasoning:
            content.append({"reasoningContent": thought})
        if response.text:
            content.append({"text": response.text})
        calls = [{**_use(call), "input": dict(call.arguments)} for call in response.tool_calls]
        content += [{"toolUse": call} for call in calls]
        body = {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": _stop_reason(response),
            **_metadata(response.usage),
        }
        return HttpResponse(200, to_json(body))

    def encode_stream(
        self, request: RecordedRequest, response: Response[Any], pieces: Sequence[str]
    ) -> Iterator[Event]:
        """``messageStart``, the content blocks, ``messageStop`` and ``metadata``.

        The start of a block travels with its first piece, its stop with what follows the last one.
        As in the service, only the blocks of tool calls have a start.
        """
        yield Event("opening", event("messageStart", role="assistant"))
        stops = b""
        for index, (start, deltas) in enumerate(_blocks(response, pieces)):
            lead = stops
            if start is not None:
                lead += event("contentBlockStart", contentBlockIndex=index, start=start)
            for delta in deltas:
                content = event("contentBlockDelta", contentBlockIndex=index, delta=delta)
                yield Event("content", lead + content)
                lead = b""
            stops = event("contentBlockStop", contentBlockIndex=index)
        if stops:
            yield Event("ending", stops)
        yield Event("ending", event("messageStop", stopReason=_stop_reason(response)))
        yield Event("ending", event("metadata", **_metadata(response.usage)))

    def encode_error(self, error: Status) -> HttpResponse:
        """The exception's name in a header, its message as JSON; `kind` is the name."""
        fallback = _CLIENT_ERROR if error.code < 500 else _SERVER_ERROR
        name, message = _ERRORS.get(error.code, fallback)
        headers = (("x-amzn-errortype", error.kind or name),)
        return HttpResponse(error.code, to_json({"message": error.message or message}), headers)

    def encode_error_event(self, error: Status) -> bytes:
        """An exception frame, or an error frame if `kind` asks for one.

        The names of exceptions in a stream begin with a lower-case letter
        (``throttlingException``). ``kind="error:<code>"`` gives a frame of the type ``error``,
        whose code and message are headers.
        """
        fallback = _CLIENT_ERROR if error.code < 500 else _SERVER_ERROR
        name, usual = _ERRORS.get(error.code, fallback)
        name = _IN_STREAM.get(error.code, name)
        message = error.message or usual
        kind = error.kind or name[0].lower() + name[1:]
        if kind.startswith("error:"):
            code = kind.removeprefix("error:")
            return frame({":message-type": "error", ":error-code": code, ":error-message": message})
        headers = {":message-type": "exception", ":exception-type": kind}
        return frame(
            {**headers, ":content-type": "application/json"}, to_json({"message": message})
        )

    def corrupt(self, event: bytes) -> bytes:
        """The last frame's payload with one byte changed, so that its checksum is wrong."""
        return event[:-5] + bytes([event[-5] ^ 0xFF]) + event[-4:]


def frame(headers: Mapping[str, str], payload: bytes = b"") -> bytes:
    """One frame of an AWS event stream; all headers are strings."""
    packed = b"".join(
        struct.pack(f"!B{len(key)}sBH", len(key), key, _TEXT, len(value)) + value
        for key, value in ((name.encode(), text.encode()) for name, text in headers.items())
    )
    lengths = struct.pack("!II", len(packed) + len(payload) + _ENDS, len(packed))
    checked = lengths + struct.pack("!I", crc32(lengths)) + packed + payload
    return checked + struct.pack("!I", crc32(checked))


def event(kind: str, /, **fields: Any) -> bytes:
    """The frame of one event of ConverseStream, such as ``messageStart``."""
    headers = {":message-type": "event", ":event-type": kind}
    return frame({**headers, ":content-type": "application/json"}, to_json(fields))


def _blocks(
    response: Response[Any], pieces: Sequence[str]
) -> Iterator[tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
    if response.reasoning:
        thought = {"reasoningContent": {"text": response.reasoning}}
        yield None, [thought, {"reasoningContent": {"signature": "signed"}}]
    if pieces:
        yield None, [{"text": piece} for piece in pieces]
    for call in response.tool_calls:
        parts = halves(to_json(dict(call.arguments)).decode())
        yield {"toolUse": _use(call)}, [{"toolUse": {"input": part}} for part in parts]


def _use(call: ToolCall) -> dict[str, Any]:
    return {"toolUseId": call.id, "name": call.name}


def _stop_reason(response: Response[Any]) -> str:
    reason = response.finish_reason or ("tool_calls" if response.tool_calls else "stop")
    return _STOP_REASONS.get(reason, reason)


def _metadata(usage: Usage) -> dict[str, Any]:
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    counts = {
        "inputTokens": usage.input_tokens - cached,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "cacheReadInputTokens": usage.cache_read_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
    }
    return {"usage": counts, "metrics": {"latencyMs": 1}}
