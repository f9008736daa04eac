"""``agentkit doctor``: the check-up's findings as text or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agentkit.cli.checkup import examine
from agentkit.cli.output import console, print_json

_COLUMN = 26
"""Where what was found begins, behind the name of what was looked for."""


def run(*, as_json: bool) -> bool:
    """Show the findings; whether everything needed is in order."""
    findings = examine()
    if as_json:
        print_json(findings)
    else:
        _report(console(), findings)
    return bool(findings["ok"])


def _report(out: Console, findings: Mapping[str, Any]) -> None:
    _heading(out, "Versions")
    _line(out, "python", findings["python"], findings["platform"])
    _line(out, "agentkit", findings["agentkit"])
    for each in findings["dependencies"]:
        _line(out, each["name"], each["installed"] or "missing", f"needs {each['needs']}")
    _heading(out, "Extras")
    for extra in findings["extras"]:
        found = "present" if extra["present"] else "not installed"
        _line(out, extra["name"], found, extra["install"] or _versions(extra["packages"]))
    _heading(out, "Response cache")
    for name, value in findings["response_cache"].items():
        _line(out, name.replace("_", " "), _plain(value))
    _heading(out, "Provider keys (values are never shown)")
    for name, presence in findings["keys"].items():
        _line(out, name, presence)
    _heading(out, "AGENTKIT_* variables")
    for name, value in findings["settings"].items() or [("none", "")]:
        _line(out, name, value)
    _heading(out, "Notes")
    for note in findings["notes"]:
        out.print(Padding(Text(note), (0, 0, 0, 2)))
    _verdict(out, findings["problems"])


def _verdict(out: Console, problems: list[str]) -> None:
    out.print()
    if not problems:
        out.print(Text("All is in order: a manager has just answered a question.", "green"))
    for problem in problems:
        out.print(Text(f"problem: {problem}", "bold red"), soft_wrap=True)


def _heading(out: Console, title: str) -> None:
    out.print()
    out.print(Text(title, "bold"))


def _line(out: Console, name: str, found: str, remark: str = "") -> None:
    text = Text(found, _STYLES.get(found, ""))
    if remark:
        text.append(f"  {remark}", "dim")
    if not out.is_terminal:  # a line stays whole for whoever searches it
        out.print(Text(f"  {name:{_COLUMN}}") + text, soft_wrap=True)
        return
    row = Table.grid()
    row.add_column(width=_COLUMN + 2)
    row.add_column(overflow="fold")
    row.add_row(Text(f"  {name}"), text)
    out.print(row)


_STYLES = {"present": "green", "set": "green", "yes": "green", "missing": "bold red",
           "not installed": "dim", "not set": "dim", "empty": "yellow"}  # fmt: skip


def _versions(packages: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)
