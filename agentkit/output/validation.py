"""Answers that must match a type: ask for JSON, validate, and ask again with the violations."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from agentkit.errors import ConfigurationError, StructuredOutputError
from agentkit.types import Message, MessageRole, Request, Response

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import ErrorDetails

    from agentkit.output.partial import Growth

MOST_VIOLATIONS: Final = 20
"""How many violations an error names; the rest is counted."""
_LONGEST_VIOLATION: Final = 300  # characters
_LONGEST_QUOTE: Final = 20_000
"""Characters of a rejected answer that go back to the model."""
MOST_OPENINGS: Final = 64
"""Brackets in a text that are looked at as the beginning of the JSON."""
_FENCE: Final = re.compile(r"```[ \t]*(?:json)?[ \t]*\r?\n", re.IGNORECASE)
_OPENING: Final = re.compile(r"[{\[]")
_CUT: Final = frozenset({"length", "max_tokens", "max_output_tokens"})
NOT_JSON: Final = (ValueError, TypeError)
"""What pydantic's parser raises; the latter for text that has no UTF-8 (a lone surrogate)."""
_MISSING: Final = frozenset({"missing", "union_tag_not_found"})
_UNKNOWN: Final = object()

_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class JSONSchema:
    """A JSON schema in place of a type: the answer must be an object, which is not looked into."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a type is asked for, and how its JSON is read.

    Providers take only objects at the top of a schema. Any other type is asked for as
    ``{"value": …}`` (`wrapped`); on the way back it may come with or without that.
    """

    kind: Any
    bare: TypeAdapter[Any]
    wrapped: TypeAdapter[Any] | None
    schema: Mapping[str, Any]

    def validate(self, text: str) -> Any:
        """The instance in the JSON `text`. Raises pydantic's `ValidationError`."""
        if self.wrapped is None:
            return self.bare.validate_json(text)
        from pydantic import ValidationError

        try:
            return self.wrapped.validate_json(text).value
        except ValidationError as error:
            try:
                return self.bare.validate_json(text)
            except ValidationError as other:
                raise (error if text.lstrip().startswith("{") else other) from None


class TypeCheck:
    """Checks answers against one type; see `agentkit.engine.call.Check`."""

    def __init__(self, shape: Shape, name: str, tools: frozenset[str]) -> None:
        self._shape = shape
        self._name = name
        self._tools = tools

    def accept(self, response: Response[Any]) -> Response[Any]:
        """The response with `parsed`; a wish for one of the offered tools is no answer and passes.

        Read as the answer, in this order: the arguments of a tool call where no tools were offered
        (or of one named like the schema); the whole text, without a byte order mark and a Markdown
        fence around it; each complete JSON object or array in the text, after a fence first. Of
        duplicate keys the last one counts.

        Raises:
            StructuredOutputError: nothing matches; `violations` name each path in the answer.
        """
        calls = response.tool_calls
        if calls and self._tools and any(call.name != self._name for call in calls):
            return response
        texts = [json.dumps(dict(call.arguments), default=str) for call in calls]
        if response.text.strip() or not texts:
            texts.append(response.text)
        rejected: list[list[str]] = []
        cause: BaseException | None = None
        for text in texts:
            try:
                parsed = self._parsed(text)
            except _MismatchError as mismatch:
                rejected.append(mismatch.violations)
                cause = cause or mismatch.__cause__
            else:
                if not calls:
                    return replace(response, parsed=parsed)
                return replace(response, text=text, parsed=parsed, tool_calls=())
        cut = (response.finish_reason or "").lower() in _CUT
        raise StructuredOutputError(
            f"{response.model} answered in the wrong shape: {rejected[0][0]}",
            raw=texts[0],
            violations=rejected[0],
            hint="the answer was cut: raise max_tokens"
            if cut
            else "simplify the type, or add a fallback that follows schemas better",
        ) from cause

    def again(self, asked: Request, rejected: StructuredOutputError) -> Request:
        """The same request with the last rejected answer and what is wrong with it."""
        wrong = "\n".join(f"- {each}" for each in rejected.violations)
        repair = (
            Message(MessageRole.ASSISTANT, _short(rejected.raw, _LONGEST_QUOTE) or "(empty)"),
            Message(
                MessageRole.USER,
                f"That answer does not match the JSON schema:\n{wrong}\n"
                "Answer again with the corrected JSON only.",
            ),
        )
        return replace(asked, prompt=None, messages=(*asked.conversation, *repair))

    def growth(self) -> Growth:
        """What makes partial instances of a stream's events."""
        from agentkit.output.partial import Growth

        return Growth(self._shape.kind, wrapped=self._shape.wrapped is not None)

    def _parsed(self, text: str) -> Any:
        whole = unfenced(text)
        try:
            return self._validated(whole)
        except _MismatchError as mismatch:
            if mismatch.is_json:
                raise
        first: _MismatchError | None = None
        for part in values_in(text):
            try:
                return self._validated(part)
            except _MismatchError as mismatch:
                first = first or mismatch
        if first is None:
            opening = _OPENING.search(whole)
            return self._validated(whole[opening.start() :] if opening else whole)
        raise first

    def _validated(self, text: str) -> Any:
        from pydantic import ValidationError
        from pydantic_core import from_json

        try:
            return self._shape.validate(text)
        except ValidationError as error:
            try:
                document = from_json(text)
            except NOT_JSON:
                raise _MismatchError(violations(error), is_json=False) from None
            raise _MismatchError(violations(error, document), is_json=True) from None
        except Exception as error:
            told = [f"$: a validator raised {type(error).__name__}"]
            raise _MismatchError(told, is_json=True) from error


class _MismatchError(Exception):
    def __init__(self, violations: list[str], *, is_json: bool) -> None:
        super().__init__()
        self.violations = violations
        self.is_json = is_json


def check_for(response_model: Any, request: Request) -> tuple[TypeCheck, Request]:
    """The check for a type, and the request that asks for its JSON.

    Raises:
        ConfigurationError: pydantic cannot make a JSON schema for the type.
    """
    tools = frozenset(tool.name for tool in request.tools)
    name = _name_of(response_model, tools)
    try:
        plain_class = isinstance(response_model, type)
        shape = _shape_of_class(response_model) if plain_class else _shape_of(response_model)
    except Exception as error:
        raise ConfigurationError(
            f"response_model {response_model!r} has no JSON schema: {type(error).__name__}",
            hint="use a pydantic model, a dataclass, a TypedDict or a builtin type",
        ) from error
    schema = copy.deepcopy(dict(shape.schema))
    wish = {"type": "json_schema", "name": name, "schema": schema}
    return TypeCheck(shape, name, tools), replace(request, response_format=wish)


def _name_of(response_model: Any, taken: frozenset[str]) -> str:
    """A name that every provider takes, and that is no tool's."""
    own = getattr(
        response_model, "name" if isinstance(response_model, JSONSchema) else "__name__", ""
    )
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", own).strip("_")[:48] or "answer"
    while name in taken:
        name += "_"
    return name


def _shape_of(response_model: Any) -> Shape:
    from pydantic import ConfigDict, TypeAdapter, create_model

    if isinstance(response_model, JSONSchema):
        anything: TypeAdapter[Any] = TypeAdapter(dict[str, Any])
        return Shape(dict, anything, None, response_model.schema)
    bare: TypeAdapter[Any] = TypeAdapter(response_model)
    schema = _at_the_top(bare.json_schema())
    if schema.get("type") == "object":
        return Shape(response_model, bare, None, schema)
    forbid = ConfigDict(extra="forbid")  # or another object with a `value` would be unwrapped
    model = create_model("Answer", __config__=forbid, value=(response_model, ...))
    return Shape(response_model, bare, TypeAdapter(model), model.model_json_schema())


_shape_of_class = functools.lru_cache(maxsize=128)(_shape_of)
"""Only classes are looked up: ``int | str`` equals ``str | int`` and does not mean the same."""


def _at_the_top(schema: dict[str, Any]) -> dict[str, Any]:
    """A recursive model's schema with the model itself at the top instead of a reference to it."""
    prefix, _, name = schema.get("$ref", "").rpartition("/")
    if prefix != "#/$defs":
        return schema
    return {**schema["$defs"][name], "$defs": schema["$defs"]}


def unfenced(text: str) -> str:
    """`text` without white space, byte order mark and one Markdown code fence around it."""
    stripped = text.strip().removeprefix("\ufeff").strip()
    if stripped.startswith("```") and stripped.endswith("```") and "\n" in stripped:
        return stripped[stripped.index("\n") + 1 : -3].strip()
    return stripped


def values_in(text: str) -> Iterator[str]:
    """The complete JSON objects and arrays in `text`, in order; those after a fence first.

    None of them is a part of another one, and nothing follows one that is cut off: a piece of an
    answer is not the answer.
    """
    fence = _FENCE.search(text)
    for start in (fence.end(), 0) if fence else (0,):
        yield from _values_from(text, start)


def _values_from(text: str, position: int) -> Iterator[str]:
    from pydantic_core import from_json

    for _ in range(MOST_OPENINGS):
        opening = _OPENING.search(text, position)
        if opening is None:
            return
        start = opening.start()
        try:
            _, position = _decode(text, start)
        except (ValueError, RecursionError):
            try:
                from_json(text[start:], allow_partial=True)
            except NOT_JSON:
                position = start + 1
            else:
                return
        else:
            yield text[start:position]


def violations(error: ValidationError, document: Any = _UNKNOWN) -> list[str]:
    """One line a violation: its path (`$.items[0].price`) and what is wrong.

    At most `MOST_VIOLATIONS` lines, and one that counts the rest. With the `document` that was
    validated, the path holds only what is in it; the member of a union that was tried is told
    behind.
    """
    found = error.errors(include_input=False, include_url=False)
    lines = [_short(_line(each, document), _LONGEST_VIOLATION) for each in found[:MOST_VIOLATIONS]]
    if len(found) > MOST_VIOLATIONS:
        lines.append(f"and {len(found) - MOST_VIOLATIONS} more")
    return lines


def _line(violation: ErrorDetails, document: Any) -> str:
    path, tried, here = "$", [], document
    location = list(violation["loc"])
    tag = violation.get("ctx", {}).get("discriminator", "").strip("'")
    if tag.isidentifier():  # told of the object, caused by its tag
        location.append(tag)
    for index, part in enumerate(location):
        missing = violation["type"] in _MISSING and index == len(location) - 1
        if isinstance(here, dict) and str(part) in here:
            here = here[str(part)]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
            path += f"[{part}]"
            continue
        elif not missing and document is not _UNKNOWN:
            tried.append(str(part))
            continue
        path += _step(part, document is _UNKNOWN)
    return f"{path}: {violation['msg']}" + (f" (as {' '.join(tried)})" if tried else "")


def _step(part: int | str, index: bool) -> str:
    if isinstance(part, int) and index:
        return f"[{part}]"
    name = str(part)
    return f".{name}" if name.replace("-", "_").isidentifier() else f"[{json.dumps(name)}]"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
