"""How commands speak: data on stdout, words about failures on stderr."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, NoReturn, TextIO

import typer
from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def console() -> Console:
    """A console on stdout. Colour only where a terminal wants it (`NO_COLOR` is respected)."""
    forgive(sys.stdout)
    return Console(highlight=False, markup=False, emoji=False)


def is_screen(out: Console) -> bool:
    """Whether `out` is a terminal that can redraw, so that something may move on it."""
    return sys.stdout.isatty() and out.is_terminal and not out.is_dumb_terminal


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, indent=2))


def fail(message: str) -> NoReturn:
    """Say in one line what went wrong, and leave with exit code 1."""
    forgive(sys.stderr)
    print(f"agentkit: {message}", file=sys.stderr)
    raise typer.Exit(1)


def one_line(error: Exception) -> str:
    """What `error` says, its hint included, without line breaks."""
    return "; ".join(line for line in str(error).splitlines() if line)


def forgive(stream: TextIO) -> None:
    """A terminal that cannot show a character shows a question mark, and the command goes on."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
