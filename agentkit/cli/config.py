"""``agentkit config``: check a configuration, show it without its keys, print its schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from agentkit.cli.output import console, fail, one_line, print_json
from agentkit.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

    from agentkit.config.check import Report, WorstCase
    from agentkit.config.schema import KeySettings, ProviderSettings, Settings

app = typer.Typer(help="Check and show the configuration; keys are never shown.")

File = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]",
        help="Default: AGENTKIT_CONFIG, config/llm.yaml, the keys in the environment.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]

_STYLES = {"warning": "yellow", "note": "dim"}


@app.command("check")
def check_command(file: File = None, as_json: AsJson = False) -> None:
    """Say what is wrong, what may go wrong, and the worst that a request can cost.

    Nothing is sent. Exit code 1: the configuration does not load.
    """
    from agentkit.config.check import check

    try:
        report = check(_load(file))
    except ConfigurationError as error:
        if as_json:
            print_json({"ok": False, "problems": problems_of(error)})
            raise typer.Exit(1) from None
        fail(one_line(error))
    if as_json:
        print_json({"ok": True, "problems": [], **report.as_json()})
    else:
        _report(console(), report)


@app.command("show")
def show_command(file: File = None, as_json: AsJson = False) -> None:
    """Show the values in force, defaults included; of a key its fingerprint and where it is from.

    Exit code 1: the configuration does not load.
    """
    try:
        settings = _load(file)
    except ConfigurationError as error:
        fail(one_line(error))
    if as_json:
        print_json(shown(settings))
    else:
        _print(console(), shown(settings))


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of a configuration file, for editors and other checks."""
    from agentkit.config.schema import json_schema

    print_json(json_schema())


def problems_of(error: ConfigurationError) -> list[str]:
    """Each thing that is wrong, with its place and remedy, on a line of its own."""
    first, *others = error.message.splitlines()
    return others or [f"{first} ({error.hint})" if error.hint else first]


def shown(settings: Settings) -> dict[str, Any]:
    """`settings` without any key, as JSON could hold them."""
    return {
        "source": settings.source,
        "fingerprint": settings.fingerprint,
        "default_provider": settings.default_provider,
        "fallback": list(settings.fallback),
        "deadline": settings.deadline,
        "max_retries": settings.max_retries,
        "response_cache": settings.response_cache or "off",
        "providers": {name: _provider(each) for name, each in settings.providers.items()},
    }


def _provider(provider: ProviderSettings) -> dict[str, Any]:
    return {
        "type": provider.kind,
        "base_url": provider.base_url,
        "strategy": provider.strategy,
        "timeout": provider.timeout,
        "first_token_timeout": provider.first_token_timeout,
        "acquire_timeout": provider.acquire_timeout,
        "idle_timeout": provider.idle_timeout,
        "max_lifetime": provider.max_lifetime,
        "max_tokens": provider.max_tokens,
        "context_window": provider.context_window,
        "keys": [_key(key) for key in provider.keys],
    }


def _key(key: KeySettings) -> dict[str, Any]:
    limits = key.limits
    return {
        "key": key.fingerprint,
        "from": key.origin,
        "model": key.model,
        "max_concurrency": key.max_concurrency,
        "requests_per_minute": limits.requests_per_minute,
        "input_tokens_per_minute": limits.input_tokens_per_minute,
        "output_tokens_per_minute": limits.output_tokens_per_minute,
        "tokens_per_minute": limits.tokens_per_minute,
    }


def _load(file: Path | None) -> Settings:
    from agentkit.config import load_settings

    return load_settings(file)


def _report(out: Console, report: Report) -> None:
    out.print(Text.assemble(("configuration  ", "dim"), report.source), soft_wrap=True)
    out.print(Text.assemble(("worst case     ", "dim"), _worst(report.worst_case)), soft_wrap=True)
    for bound in report.worst_case.route:
        seconds = "no limit" if bound.seconds is None else f"{bound.seconds:,.1f} s"
        text = f"  {bound.provider}: at most {bound.calls} calls, {seconds}"
        out.print(Text(text, "dim"), soft_wrap=True)
    for finding in report.findings:
        line = f"{finding.level}: {finding.where}: {finding.text} ({finding.remedy})"
        out.print(Text(line, _STYLES[finding.level]), soft_wrap=True)
    if not any(finding.level == "warning" for finding in report.findings):
        out.print(Text("The configuration is in order.", "green"))


def _worst(worst: WorstCase) -> str:
    if worst.seconds is None:
        return f"{worst.calls} calls and no end in time"
    ended = "the deadline" if worst.limited_by == "deadline" else "the last attempt's end"
    return f"{worst.calls} calls and {worst.seconds:,.1f} s, until {ended}"


def _print(out: Console, values: dict[str, Any], indent: int = 0) -> None:
    """Nested values as lines; what is not set is a dash."""
    for name, value in values.items():
        lead = " " * indent
        if isinstance(value, dict):
            out.print(Text(f"{lead}{name}", "bold"), soft_wrap=True)
            _print(out, value, indent + 2)
        elif value and isinstance(value, list) and isinstance(value[0], dict):
            for each in value:
                rest = {what: how for what, how in each.items() if what != "key"}
                _print(out, {f"{name.removesuffix('s')} {each['key']}": rest}, indent)
        else:
            text = ", ".join(value) if isinstance(value, list) else value
            shown_as = "–" if text in (None, "") else str(text)
            out.print(Text.assemble((f"{lead}{name:<26}", "dim"), shown_as), soft_wrap=True)
