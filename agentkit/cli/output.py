"""Output of all commands: results on stdout, errors as one line on stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer
from rich.console import Console
from rich.text import Text

from agentkit.cli.hints import hint_for

if TYPE_CHECKING:
    from agentkit.errors import LLMError

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

_CONTROL_CHARACTERS = dict.fromkeys((*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)))


def console() -> Console:
    """A console on stdout, with styles only on a terminal (it respects `NO_COLOR`)."""
    replace_unprintable(sys.stdout)
    return Console(highlight=False, markup=False, emoji=False)


def print_text(out: Console, text: Text) -> None:
    """Print `text`, wrapped between words on a terminal and with its own lines in a pipe."""
    out.print(text, soft_wrap=not out.is_terminal)


def is_screen(out: Console) -> bool:
    """Whether `out` is a terminal that can move its cursor."""
    return sys.stdout.isatty() and out.is_terminal and not out.is_dumb_terminal


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(value, indent=2))


def write(text: str) -> None:
    """Write `text` to stdout immediately; a pipe receives it unchanged."""
    sys.stdout.write(without_control_characters(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a remark on stderr."""
    print(f"agentkit: {without_control_characters(text)}", file=sys.stderr)


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Print an error in one line on stderr, and exit with `code`."""
    replace_unprintable(sys.stderr)
    print(f"agentkit: {message}", file=sys.stderr)
    raise typer.Exit(code)


def fail_with(error: LLMError, *, as_json: bool = False) -> NoReturn:
    """Print `error` and exit with code 1: on stderr, or as one JSON object on stdout.

    An error is one line with its hint, unless it lists several problems or models.
    """
    if not as_json:
        lines = error.message.splitlines()
        fail(one_line(error) if len(lines) == 1 else "\n  ".join(_lines(error)))
    print_json({"error": error_as_json(error)})
    raise typer.Exit(1)


def error_as_json(error: LLMError) -> dict[str, Any]:
    """`error` as JSON values."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "hint": hint_for(error),
        "retryable": error.retryable,
        "retry_after": error.retry_after,
        "attempts": [
            {
                "model": entry.model,
                "outcome": entry.outcome,
                "error": entry.error,
                "status": entry.status,
                "reason": entry.reason,
                "seconds": round(entry.duration, 3),
            }
            for entry in error.ledger or ()
        ],
    }


def one_line(error: Exception) -> str:
    """The message and hint of `error` without line breaks."""
    return "; ".join(_lines(error)).replace(":; ", ": ")


def _lines(error: Exception) -> list[str]:
    message, hint = getattr(error, "message", str(error)), hint_for(error)
    lines = [*message.splitlines(), *([] if hint is None else [f"hint: {hint}"])]
    return [stripped for line in lines if (stripped := line.strip())]


def count(number: int, one: str, many: str) -> str:
    """`number` with the noun in singular or plural."""
    return f"{number:,} {one if number == 1 else many}"


def without_control_characters(text: str) -> str:
    """`text` without the characters that control a terminal; line ends and tabs stay."""
    return text.translate(_CONTROL_CHARACTERS)


def replace_unprintable(stream: TextIO) -> None:
    """Print a question mark for characters that the encoding of `stream` does not have."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
