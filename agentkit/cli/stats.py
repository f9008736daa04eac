"""``agentkit stats``: what a response cache's directory holds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentkit.cli.inventory import Inventory, NoResponseCacheError, take_inventory
from agentkit.cli.output import console, fail, print_json


def run(directory: Path | None, *, as_json: bool) -> None:
    """Show what `directory` holds (default: a manager's own); exit code 1 when there is none."""
    try:
        found = take_inventory(directory)
    except NoResponseCacheError as error:
        fail(str(error))
    if as_json:
        print_json(_as_json(found))
    else:
        _report(console(), found)


def _as_json(found: Inventory) -> dict[str, Any]:
    return {
        "directory": str(found.directory),
        "format": found.format,
        "entries": found.entries,
        "expired": found.expired,
        "unreadable": found.unreadable,
        "bytes": found.bytes,
        "bytes_on_disk": found.bytes_on_disk,
        "oldest": _iso(found.oldest),
        "newest": _iso(found.newest),
        "models": dict(found.models),
    }


def _report(out: Console, found: Inventory) -> None:
    lines = {
        "directory": str(found.directory),
        "format": str(found.format),
        "entries": f"{found.entries:,}" + _remarks(found),
        "size": f"{found.bytes:,} bytes of answers, {found.bytes_on_disk:,} on disk",
        "oldest": _iso(found.oldest) or "–",
        "newest": _iso(found.newest) or "–",
    }
    for name, value in lines.items():
        out.print(Text.assemble((f"{name:11}", "dim"), value), soft_wrap=True)
    if found.models:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("model", overflow="fold")
        table.add_column("entries", justify="right")
        for model, entries in found.models.items():
            table.add_row(Text(model), f"{entries:,}")
        out.print(table)


def _remarks(found: Inventory) -> str:
    parts = {"expired": found.expired, "unreadable": found.unreadable}
    named = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
    return f" ({named})" if named else ""


def _iso(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
