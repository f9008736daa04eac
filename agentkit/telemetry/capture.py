"""Capture of prompts and responses: off by default; redacted, then truncated, then serialised.

Content means messages, tool definitions and arguments, and the text of exceptions. When the
redactor fails, nothing of that record is captured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from agentkit.errors import ConfigurationError
from agentkit.telemetry.names import (
    CONTENT_TRUNCATED,
    INPUT_MESSAGES,
    INPUT_TYPE,
    INPUT_VALUE,
    OUTPUT_MESSAGES,
    OUTPUT_TYPE,
    OUTPUT_VALUE,
    PLAIN_TEXT,
    TOOL_DEFINITIONS,
)
from agentkit.telemetry.safe import guarded, log
from agentkit.types import Message, Request, Response, ToolCall, ToolSpec

ContentMode: TypeAlias = Literal["none", "span", "event", "both"]
Redactor: TypeAlias = Callable[[str], str]

CAPTURE_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_FINISH_REASONS: Final = {"tool_calls": "tool_call"}
"""The conventions' names of the finish reasons that agentkit calls differently."""

_MODES: Final[dict[str, ContentMode]] = {
    "": "none",
    "no_content": "none",
    "false": "none",
    "span_only": "span",
    "event_only": "event",
    "span_and_event": "both",
    "true": "both",
}


def mode_of(chosen: ContentMode | None) -> ContentMode:
    """The mode `chosen`, else that of the environment, else ``"none"``.

    An unknown value in the environment means ``"none"`` and is logged at WARNING.

    Raises:
        ConfigurationError: `chosen` is not a mode.
    """
    if chosen is not None:
        if chosen not in _MODES.values():
            raise ConfigurationError(
                f"content={chosen!r} is unknown", hint="use 'none', 'span', 'event' or 'both'"
            )
        return chosen
    value = os.environ.get(CAPTURE_VARIABLE, "")
    mode = _MODES.get(value.strip().lower())
    if mode is None:
        log.warning("%s has an unknown value: no content is captured", CAPTURE_VARIABLE)
        return "none"
    return mode


def forbids_content(chosen: ContentMode | None) -> bool:
    """Whether ``"none"`` was chosen, here or in the environment, and is not only the default.

    Then the messages of errors have no content either. An unknown value in the environment counts
    as ``"none"``.
    """
    if chosen is None and not os.environ.get(CAPTURE_VARIABLE, "").strip():
        return False
    return mode_of(chosen) == "none"


class Captured(NamedTuple):
    """Captured content, and whether it was truncated."""

    value: Any
    truncated: bool

    def as_attribute(self, attribute: str) -> dict[str, Any]:
        """The content as attributes of a span, marked if it was truncated; empty for none."""
        if self.value is None:
            return {}
        value = self.value if isinstance(self.value, str) else dumps(self.value)
        return {attribute: value} | ({CONTENT_TRUNCATED: True} if self.truncated else {})


NOTHING: Final = Captured(None, False)
"""Stands for nothing to record, or for a redactor that failed."""


class Capture:
    """Converts requests and responses to the messages of the GenAI conventions.

    The conventions have a JSON schema for each kind of content, and backends drop what does not
    match: each tool definition has a `type`, each output message a `finish_reason`.

    `redactor` receives every text before anything else does; `limit` is the maximum length of each
    one, in characters.
    """

    def __init__(self, mode: ContentMode, redactor: Redactor | None, limit: int) -> None:
        self.on_spans = mode in ("span", "both")
        self.on_events = mode in ("event", "both")
        self.enabled = mode != "none"
        self._redactor = redactor
        self._limit = limit

    @guarded(NOTHING)
    def text(self, text: str) -> Captured:
        """`text`, redacted and truncated."""
        return self._text(text)

    @guarded(NOTHING)
    def tool_arguments(self, call: ToolCall) -> Captured:
        """The arguments of a tool call; a str if they are truncated and no longer JSON."""
        return self._json(dict(call.arguments))

    def request(self, request: Request) -> dict[str, Any]:
        """The messages and the tools of the request, as attributes."""
        messages = self.input_messages(request).as_attribute(INPUT_MESSAGES)
        return messages | self.tool_definitions(request).as_attribute(TOOL_DEFINITIONS)

    def response(self, response: Response[Any]) -> dict[str, Any]:
        """The response as one message, as an attribute."""
        return self.output_messages(response).as_attribute(OUTPUT_MESSAGES)

    def input_text(self, request: Request) -> dict[str, Any]:
        """The request as one text, in the attributes of OpenInference."""
        value = self.text(request.text).as_attribute(INPUT_VALUE)
        return value | {INPUT_TYPE: PLAIN_TEXT} if value else value

    def output_text(self, response: Response[Any]) -> dict[str, Any]:
        """The text of the response, or else its tool calls, in the attributes of OpenInference."""
        text = response.text or "\n".join(map(_line_of, response.tool_calls))
        value = self.text(text).as_attribute(OUTPUT_VALUE)
        return value | {OUTPUT_TYPE: PLAIN_TEXT} if value else value

    @guarded(NOTHING)
    def input_messages(self, request: Request) -> Captured:
        """The messages of the request."""
        captured = [self._message(message) for message in request.conversation]
        return Captured([c.value for c in captured], any(c.truncated for c in captured))

    @guarded(NOTHING)
    def output_messages(self, response: Response[Any]) -> Captured:
        """The response as one message."""
        parts = [self._part("reasoning", response.reasoning)] if response.reasoning else []
        parts += [self._part("text", response.text)] if response.text else []
        parts += [self._tool_call(call) for call in response.tool_calls]
        reason = response.finish_reason or "unknown"
        message = {
            "role": "assistant",
            "parts": [part.value for part in parts],
            "finish_reason": _FINISH_REASONS.get(reason, reason),
        }
        return Captured([message], any(part.truncated for part in parts))

    @guarded(NOTHING)
    def tool_definitions(self, request: Request) -> Captured:
        """The definitions of the request's tools."""
        if not request.tools:
            return NOTHING
        captured = [self._tool_definition(each) for each in request.tools]
        return Captured([c.value for c in captured], any(c.truncated for c in captured))

    def _text(self, text: str) -> Captured:
        if self._redactor is not None:
            text = str(self._redactor(text))
        return Captured(text[: self._limit], len(text) > self._limit)

    def _message(self, message: Message) -> Captured:
        role = str(getattr(message.role, "value", message.role))
        if message.tool_call_id is not None:
            answer = self._text(message.text)
            part = {"type": "tool_call_response", "id": message.tool_call_id}
            return Captured({"role": role, "parts": [part | {"response": answer.value}]}, answer[1])
        if isinstance(message.content, str):
            parts = [self._part("text", message.content)]
        else:
            parts = [self._content_part(part) for part in message.content]
        parts += [self._tool_call(call) for call in message.tool_calls]
        value = {"role": role, "parts": [part.value for part in parts]}
        return Captured(value, any(part.truncated for part in parts))

    def _part(self, kind: str, text: str) -> Captured:
        captured = self._text(text)
        return Captured({"type": kind, "content": captured.value}, captured.truncated)

    def _content_part(self, part: Mapping[str, Any]) -> Captured:
        if "text" in part:
            return self._part("text", str(part["text"]))
        return Captured({"type": "generic"}, False)  # images and files are not captured

    def _tool_call(self, call: ToolCall) -> Captured:
        arguments = self._json(dict(call.arguments))
        part = {"type": "tool_call", "id": call.id, "name": call.name}
        return Captured(part | {"arguments": arguments.value}, arguments.truncated)

    def _tool_definition(self, tool: ToolSpec) -> Captured:
        description, parameters = self._text(tool.description), self._json(tool.parameters)
        schema = parameters.value
        if not isinstance(schema, dict):  # a JSON schema must stay one, even if it was truncated
            schema = {"$comment": schema}
        definition = {
            "type": "function",
            "name": self._text(tool.name).value,
            "description": description.value,
            "parameters": schema,
        }
        return Captured(definition, description.truncated or parameters.truncated)

    def _json(self, value: Any) -> Captured:
        """`value` with its JSON redacted and truncated; as text if that is no longer JSON."""
        captured = self._text(dumps(value))
        try:
            return captured._replace(value=json.loads(captured.value))
        except ValueError:
            return captured


def dumps(value: Any) -> str:
    """Compact JSON; a value that JSON cannot represent is replaced by the name of its class."""
    return json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), default=lambda item: type(item).__name__
    )


def _line_of(call: ToolCall) -> str:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False, default=str)
    return f"{call.name} {arguments}"
