"""Validation of responses against a type, and the repair of those that do not match."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any, Final

from agentkit.errors import StructuredOutputError
from agentkit.output.json_text import NOT_JSON, OPENING, unfenced, values_in
from agentkit.output.partial import PartialInstances
from agentkit.output.schema import OutputSchema, schema_name, schema_of
from agentkit.output.violations import truncated, violations
from agentkit.types import Message, MessageRole, Request, Response

_MAX_QUOTE: Final = 20_000
"""Characters of a rejected answer that are sent back to the model."""
_TRUNCATED: Final = frozenset({"length", "max_tokens", "max_output_tokens"})
"""Finish reasons of a response that reached a token limit."""


def check_for(response_model: Any, request: Request) -> tuple[TypeCheck, Request]:
    """The check of responses against a type, and the request with the schema of the type.

    Raises:
        ConfigurationError: pydantic cannot create a JSON schema for the type.
    """
    tools = frozenset(tool.name for tool in request.tools)
    name = schema_name(response_model, tools)
    output = schema_of(response_model)
    response_format = {
        "type": "json_schema",
        "name": name,
        "schema": copy.deepcopy(dict(output.schema)),
    }
    return TypeCheck(output, name, tools), replace(request, response_format=response_format)


class TypeCheck:
    """Checks responses against one type; a rejected one is a failed attempt."""

    retries: int | None = None
    delay: float = 0.0

    def __init__(self, output: OutputSchema, name: str, tools: frozenset[str]) -> None:
        self._output = output
        self._name = name
        self._tools = tools

    def accept(self, response: Response[Any]) -> Response[Any]:
        """The response with `parsed`; one that calls an offered tool is returned unchanged.

        The answer is looked for in this order: the arguments of a tool call, if no tools were
        offered or if the call has the name of the schema; the complete text, without a byte order
        mark and a Markdown fence around it; each complete JSON object or array in the text, those
        after a fence first. The last of duplicate keys counts.

        Raises:
            StructuredOutputError: nothing matches; `violations` name each path in the answer.
        """
        calls = response.tool_calls
        if calls and self._tools and any(call.name != self._name for call in calls):
            return response
        texts = [json.dumps(dict(call.arguments), default=str) for call in calls]
        if response.text.strip() or not texts:
            texts.append(response.text)
        mismatches: list[_MismatchError] = []
        for text in texts:
            try:
                parsed = self._parse(text)
            except _MismatchError as mismatch:
                mismatches.append(mismatch)
            else:
                if not calls:
                    return replace(response, parsed=parsed)
                return replace(response, text=text, parsed=parsed, tool_calls=(), state=None)
        limited = (response.finish_reason or "").lower() in _TRUNCATED
        raise StructuredOutputError(
            f"{response.model} answered in the wrong shape: {mismatches[0].violations[0]}",
            raw=texts[0],
            violations=mismatches[0].violations,
            hint="the answer was truncated: raise max_tokens"
            if limited
            else "simplify the type, or add a fallback that follows schemas better",
        ) from next((each.__cause__ for each in mismatches if each.__cause__), None)

    def again(self, request: Request, rejected: StructuredOutputError) -> Request:
        """The request with the rejected answer and its violations appended."""
        lines = "\n".join(f"- {each}" for each in rejected.violations)
        repair = (
            Message(MessageRole.ASSISTANT, truncated(rejected.raw, _MAX_QUOTE) or "(empty)"),
            Message(
                MessageRole.USER,
                f"That answer does not match the JSON schema:\n{lines}\n"
                "Answer again with the corrected JSON only.",
            ),
        )
        return replace(request, prompt=None, messages=(*request.conversation, *repair))

    def partial_builder(self) -> PartialInstances:
        """A builder of partial instances from a stream's events."""
        return PartialInstances(self._output.type, wrapped=self._output.wrapper is not None)

    def _parse(self, text: str) -> Any:
        complete = unfenced(text)
        try:
            return self._validate(complete)
        except _MismatchError as mismatch:
            if mismatch.is_json:
                raise
        first: _MismatchError | None = None
        for part in values_in(text):
            try:
                return self._validate(part)
            except _MismatchError as mismatch:
                first = first or mismatch
        if first is None:
            opening = OPENING.search(complete)
            return self._validate(complete[opening.start() :] if opening else complete)
        raise first

    def _validate(self, text: str) -> Any:
        from pydantic import ValidationError
        from pydantic_core import from_json

        try:
            return self._output.validate(text)
        except ValidationError as error:
            try:
                document = from_json(text)
            except NOT_JSON:
                raise _MismatchError(violations(error), is_json=False) from None
            raise _MismatchError(violations(error, document), is_json=True) from None
        except Exception as error:
            lines = [f"$: a validator raised {type(error).__name__}"]
            raise _MismatchError(lines, is_json=True) from error


class _MismatchError(Exception):
    def __init__(self, violations: list[str], *, is_json: bool) -> None:
        super().__init__()
        self.violations = violations
        self.is_json = is_json
