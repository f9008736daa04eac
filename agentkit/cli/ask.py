"""``agentkit ask``: one question, and its answer on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentkit.cli.output import fail, one_line, print_json, replace_unprintable, write
from agentkit.cli.session import BaseUrl, Models, System, manager_of
from agentkit.errors import LLMError

if TYPE_CHECKING:
    from agentkit.types import Message, Response


def command(
    prompt: Annotated[str, typer.Argument(help="The question; - reads it from stdin.")],
    model: Models = None,
    system: System = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="The time limit, including retries and fallbacks.",
            show_default=False,
        ),
    ] = None,
    stream: Annotated[bool, typer.Option(help="Show the answer as it arrives.")] = True,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object: text, model, usage, cost, attempts."),
    ] = False,
    base_url: BaseUrl = None,
) -> None:
    """Ask one question.

    The answer goes to stdout. Exit code 1: no answer, or an incomplete one.
    """
    replace_unprintable(sys.stdout)
    try:
        messages = _messages(_read_stdin() if prompt == "-" else prompt, system)
        with manager_of(model, base_url) as manager:
            if as_json:
                print_json(_as_json(manager.complete(messages, deadline=deadline)))
            elif not stream:
                write(f"{manager.complete(messages, deadline=deadline).text}\n")
            else:
                with manager.stream(messages, deadline=deadline) as chunks:
                    _write_chunks(chunks)
    except LLMError as error:
        fail(one_line(error))


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
        "model": response.model,
        "provider": response.provider,
        "finish_reason": response.finish_reason,
        "usage": asdict(response.usage),
        "cost": response.cost,
        "attempts": len(response.ledger.sent),
    }
