"""``agentkit ask``: one question, and its answer on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentkit.cli.output import fail, fail_with, note, print_json, replace_unprintable, write
from agentkit.cli.session import (
    BaseUrl,
    Models,
    Options,
    System,
    manager_of,
    params_of,
    shown_retries,
)
from agentkit.errors import ConfigurationError, LLMError

if TYPE_CHECKING:
    from agentkit.output.schema import JSONSchema
    from agentkit.types import Message, Response
    from agentkit.types.ledger import Ledger


def command(
    prompt: Annotated[str, typer.Argument(help="The question; - reads it from stdin.")],
    model: Models = None,
    system: System = None,
    option: Options = None,
    schema: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A JSON Schema of an object, which the answer has to match; prints JSON.",
            show_default=False,
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="The time limit, including retries and fallbacks.",
            show_default=False,
        ),
    ] = None,
    stream: Annotated[bool, typer.Option(help="Show the answer as it arrives.")] = True,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every attempt on stderr.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object: text, model, usage, cost, attempts."),
    ] = False,
    base_url: BaseUrl = None,
) -> None:
    """Ask one question.

    The answer goes to stdout; retries, fallbacks and errors go to stderr.
    Exit code 1: no answer, or an incomplete one.
    """
    replace_unprintable(sys.stdout)
    replace_unprintable(sys.stderr)
    try:
        request: dict[str, Any] = {"deadline": deadline, "params": params_of(option)}
        if schema is not None:
            request["response_model"] = _read_schema(schema)
        messages = _messages(_read_stdin() if prompt == "-" else prompt, system)
        with manager_of(model, base_url) as manager, shown_retries():
            if stream and not as_json and schema is None:
                with manager.stream(messages, **request) as chunks:
                    _write_chunks(chunks)
                response = chunks.response
            else:
                response = manager.complete(messages, **request)
                _write_response(response, as_json=as_json)
    except LLMError as error:
        if verbose and error.ledger is not None:
            _explain(error.ledger)
        fail_with(error, as_json=as_json)
    if verbose:
        _explain(response.ledger)


def _write_response(response: Response[Any], *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(response))
    elif response.parsed is not None:
        print_json(response.parsed)
    else:
        write(f"{response.text}\n")


def _explain(ledger: Ledger) -> None:
    for line in ledger.explain().splitlines():
        note(line)


def _read_schema(path: Path) -> JSONSchema:
    from agentkit.cli.schema_check import flaw_of_schema
    from agentkit.output.schema import JSONSchema

    try:
        schema = json.loads(path.read_text("utf-8"))
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise ConfigurationError(message, hint="check the path") from None
    except ValueError:
        schema = None
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise ConfigurationError(
            f"{path} is not the JSON Schema of an object",
            hint='write {"type": "object", "properties": {...}}',
        )
    flaw = flaw_of_schema(schema)
    if flaw is not None:
        raise ConfigurationError(f"{path} is not a JSON Schema: {flaw}", hint="correct the file")
    return JSONSchema(path.stem, schema)


def _write_chunks(chunks: Iterable[str]) -> None:
    """Write each chunk as it arrives, and a line end after the last one or before an error."""
    written = False
    try:
        for chunk in chunks:
            write(chunk)
            written = True
    finally:
        if written:
            write("\n")


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        fail(f"stdin is not UTF-8: byte {error.start}")


def _messages(prompt: str, system: str | None) -> list[Message]:
    from agentkit.manager.requests import conversation
    from agentkit.types import Message, MessageRole

    first = [] if system is None else [Message(MessageRole.SYSTEM, system)]
    return [*first, *conversation(prompt)]


def _as_json(response: Response[Any]) -> dict[str, Any]:
    return {
        "text": response.text,
        "parsed": response.parsed,
        "model": response.model,
        "provider": response.provider,
        "finish_reason": response.finish_reason,
        "usage": asdict(response.usage),
        "cost": response.cost,
        "attempts": len(response.ledger.sent),
    }
