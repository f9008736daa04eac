"""``agentkit config``: begin a configuration, check it, show it without its keys."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.text import Text

from agentkit.cli.help import Command, Group
from agentkit.cli.output import (
    AsJson,
    console,
    fail,
    fail_with,
    print_json,
    print_text,
)
from agentkit.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

    from agentkit.config.check import Report, WorstCase
    from agentkit.config.schema import KeySettings, ProviderSettings, Settings

app = typer.Typer(cls=Group, help="Check and show the configuration; keys are never shown.")

File = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]",
        help="Default: AGENTKIT_CONFIG, config/llm.yaml, or the keys in the environment.",
        show_default=False,
    ),
]

_STYLES = {"warning": "yellow", "note": "dim"}


@app.command("check", cls=Command)
def check_command(file: File = None, as_json: AsJson = False) -> None:
    """Report errors, risks, and the most calls and time that a request can take.

    Sends nothing. Exit code 1: the configuration does not load.
    """
    from agentkit.config.check import check

    try:
        report = check(_load(file))
    except ConfigurationError as error:
        if as_json:
            print_json({"ok": False, "problems": _problems(error)})
            raise typer.Exit(1) from None
        fail_with(error)
    if as_json:
        print_json({"ok": True, "problems": [], **report.as_json()})
    else:
        _report(console(), report)


@app.command("show", cls=Command)
def show_command(file: File = None, as_json: AsJson = False) -> None:
    """Show all values, including defaults; for a key, its fingerprint and origin.

    Exit code 1: the configuration does not load.
    """
    try:
        settings = _load(file)
    except ConfigurationError as error:
        fail_with(error, as_json=as_json)
    if as_json:
        print_json(_as_json(settings))
    else:
        _print(console(), _as_json(settings))


@app.command("schema", cls=Command)
def schema_command() -> None:
    """Print the JSON Schema of a configuration file, for editors and validators."""
    from agentkit.config.schema import json_schema

    print_json(json_schema())


@app.command("init", cls=Command)
def init_command(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Default: config/llm.yaml.", show_default=False),
    ] = None,
) -> None:
    """Write a configuration file to begin with; never overwrites one.

    It contains the providers whose keys are in the environment, without the keys themselves.
    """
    from agentkit.config.load import DEFAULT_PATH
    from agentkit.config.template import template

    file = file or Path(DEFAULT_PATH)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as new:
            new.write(template())
    except FileExistsError:
        fail(f"{file} exists; check it with `agentkit config check`, or name another file")
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}")
    print(f"written to {file}; `agentkit config check {file}` examines it")


def _problems(error: ConfigurationError) -> list[str]:
    """Each problem as one line with its location and remedy."""
    first, *others = error.message.splitlines()
    return others or [f"{first} ({error.hint})" if error.hint else first]


def _as_json(settings: Settings) -> dict[str, Any]:
    """`settings` as JSON values, without keys."""
    return {
        "source": settings.source,
        "fingerprint": settings.fingerprint,
        "default_provider": settings.default_provider,
        "fallback": list(settings.fallback),
        "deadline": settings.deadline,
        "max_retries": settings.max_retries,
        "response_cache": settings.response_cache or "off",
        "fleet": _without_password(settings.fleet) or "off",
        "on_fleet_loss": settings.on_fleet_loss,
        "budget": None if settings.budget is None else settings.budget.model_dump(),
        "prices": {name: each.as_metadata() for name, each in settings.prices.items()},
        "providers": {name: _provider(each) for name, each in settings.providers.items()},
    }


def _without_password(url: str | None) -> str | None:
    """`url` without what identifies its user, or might in its query."""
    if url is None or "://" not in url:
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _provider(provider: ProviderSettings) -> dict[str, Any]:
    options = provider.model_dump(exclude={"name", "kind", "keys"})
    return {"type": provider.kind, **options, "keys": [_key(key) for key in provider.keys]}


def _key(key: KeySettings) -> dict[str, Any]:
    return {
        "key": key.fingerprint,
        "from": key.origin,
        "model": key.model,
        "max_concurrency": key.max_concurrency,
        **asdict(key.limits),
    }


def _load(file: Path | None) -> Settings:
    from agentkit.config import load_settings

    return load_settings(file)


def _report(out: Console, report: Report) -> None:
    worst = report.worst_case
    print_text(out, Text.assemble(("configuration  ", "dim"), report.source))
    print_text(out, Text.assemble(("worst case     ", "dim"), _worst_case(worst)))
    for bound in worst.route:
        seconds = "unlimited time" if bound.seconds is None else f"{bound.seconds:,.1f} s"
        text = f"  {bound.provider}: at most {bound.calls} calls, {seconds}"
        print_text(out, Text(text, "dim"))
    for finding in report.findings:
        line = f"{finding.level}: {finding.where}: {finding.text} ({finding.remedy})"
        print_text(out, Text(line, _STYLES[finding.level]))
    if not any(finding.level == "warning" for finding in report.findings):
        out.print(Text("No problems found.", "green"))


def _worst_case(worst: WorstCase) -> str:
    if worst.seconds is None:
        return f"{worst.calls} calls, unlimited time"
    end = "the deadline" if worst.limited_by == "deadline" else "the last attempt"
    return f"{worst.calls} calls, {worst.seconds:,.1f} s (ended by {end})"


def _print(out: Console, values: dict[str, Any], indent: int = 0) -> None:
    """Print nested values as lines, with a dash for a value that is not set."""
    lead = " " * indent
    for name, value in values.items():
        if isinstance(value, dict):
            print_text(out, Text(f"{lead}{name}", "bold"))
            _print(out, value, indent + 2)
        elif name == "keys":
            for key in value:
                rest = {field: each for field, each in key.items() if field != "key"}
                _print(out, {f"key {key['key']}": rest}, indent)
        else:
            text = ", ".join(value) if isinstance(value, list) else str(value)
            shown = "–" if value in (None, "", []) else text
            print_text(out, Text.assemble((f"{lead}{name:<26}", "dim"), shown))
