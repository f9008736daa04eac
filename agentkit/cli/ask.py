"""``agentkit ask``: one question, one answer on stdout."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentkit.cli.output import fail, forgive, one_line, print_json
from agentkit.cli.session import BaseUrl, Models, System, manager_of, say
from agentkit.errors import LLMError

if TYPE_CHECKING:
    from agentkit.types import Message, Response


def command(
    prompt: Annotated[str, typer.Argument(help="The question; - reads it from stdin.")],
    model: Models = None,
    system: System = None,
    deadline: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="For everything.", show_default=False)
    ] = None,
    stream: Annotated[bool, typer.Option(help="Show the answer while it comes.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object: text, model, usage, attempts.")
    ] = False,
    base_url: BaseUrl = None,
) -> None:
    """Ask one question.

    The answer goes to stdout. Exit code 1: nobody answered, or not to the end.
    """
    forgive(sys.stdout)
    try:
        asked = _conversation(_from_stdin() if prompt == "-" else prompt, system)
        with manager_of(model, base_url) as manager:
            if as_json:
                print_json(_shown(manager.complete(asked, deadline=deadline)))
            elif not stream:
                say(f"{manager.complete(asked, deadline=deadline).text}\n")
            else:
                with manager.stream(asked, deadline=deadline) as pieces:
                    _tell(pieces)
    except LLMError as error:
        fail(one_line(error))


def _tell(pieces: Any) -> None:
    shown = False
    try:
        for piece in pieces:
            say(piece)
            shown = True
    finally:
        if shown:
            say("\n")


def _from_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        fail(f"stdin is no UTF-8: byte {error.start}")


def _conversation(prompt: str, system: str | None) -> list[Message]:
    from agentkit.manager.requests import conversation
    from agentkit.types import Message, MessageRole

    lead = [] if system is None else [Message(MessageRole.SYSTEM, system)]
    return [*lead, *conversation(prompt)]


def _shown(response: Response[Any]) -> dict[str, Any]:
    return {
        "text": response.text,
        "model": response.model,
        "provider": response.provider,
        "finish_reason": response.finish_reason,
        "usage": asdict(response.usage),
        "attempts": len(response.ledger.sent),
    }
