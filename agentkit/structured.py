"""Answers that must match a type: ask for JSON, validate, and ask again with the violations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentkit.errors import ConfigurationError, StructuredOutputError
from agentkit.types import Message, MessageRole, Request, Response

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError


class TypeCheck:
    """Checks answers against one type; see `agentkit.engine.call.Check`."""

    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        self._adapter = adapter

    def accept(self, response: Response[Any]) -> Response[Any]:
        """The response with `parsed`; one that wishes for tools is no answer yet and passes.

        Raises:
            StructuredOutputError: the text does not match; `violations` name each path.
        """
        from pydantic import ValidationError

        if response.tool_calls:
            return response
        text = unfenced(response.text)
        try:
            return replace(response, parsed=self._adapter.validate_json(text))
        except ValidationError as error:
            found = violations(error)
            raise StructuredOutputError(
                f"{response.model} answered in the wrong shape: {found[0]}",
                raw=response.text,
                violations=found,
                hint="simplify the type, or add a fallback that follows schemas better",
            ) from None

    def again(self, asked: Request, rejected: StructuredOutputError) -> Request:
        """The same request with the rejected answer and what is wrong with it."""
        wrong = "\n".join(f"- {each}" for each in rejected.violations)
        repair = (
            Message(MessageRole.ASSISTANT, rejected.raw or "(empty)"),
            Message(
                MessageRole.USER,
                f"That answer does not match the JSON schema:\n{wrong}\n"
                "Answer again with the corrected JSON only.",
            ),
        )
        return replace(asked, prompt=None, messages=(*asked.conversation, *repair))


def check_for(response_model: type[Any], request: Request) -> tuple[TypeCheck, Request]:
    """The check for a type, and the request that asks for its JSON.

    Raises:
        ConfigurationError: pydantic cannot make a JSON schema for the type.
    """
    from pydantic import TypeAdapter

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(response_model)
        schema = adapter.json_schema()
    except Exception as error:
        raise ConfigurationError(
            f"response_model {response_model!r} has no JSON schema: {type(error).__name__}",
            hint="use a pydantic model, a dataclass, a TypedDict or a builtin type",
        ) from error
    name = getattr(response_model, "__name__", "answer")
    wish = {"type": "json_schema", "name": name, "schema": schema}
    return TypeCheck(adapter), replace(request, response_format=wish)


def unfenced(text: str) -> str:
    """`text` without one Markdown code fence around it."""
    stripped = text.strip()
    if stripped.startswith("```") and stripped.endswith("```") and "\n" in stripped:
        return stripped[stripped.index("\n") + 1 : -3].strip()
    return stripped


def violations(error: ValidationError) -> list[str]:
    """One line a violation: its path (`$.items[0].price`) and what is wrong."""
    return [f"{_path(each['loc'])}: {each['msg']}" for each in error.errors(include_input=False)]


def _path(location: Sequence[int | str]) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
