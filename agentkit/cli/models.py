"""``agentkit models``: the providers there are, what each still needs, and what is configured."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from agentkit.cli.output import console, one_line, print_json
from agentkit.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console


def command(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object instead of text.")
    ] = False,
) -> None:
    """List the providers, their SDKs and keys, and the configured models.

    Of a key, only whether it is there is shown. Nothing is sent.
    """
    found = {"providers": _providers(), **_configured()}
    if as_json:
        print_json(found)
    else:
        _report(console(), found)


def _providers() -> list[dict[str, Any]]:
    from agentkit.providers.registry import PROVIDERS, provider_names
    from agentkit.providers.requirements import is_installed

    found = []
    for name in provider_names():
        ours = PROVIDERS.get(name)
        there = ours is None or is_installed(ours.sdk)
        variables = () if ours is None else ours.key_variables
        found.append(
            {
                "name": name,
                "sdk": None if ours is None else ours.sdk,
                "installed": there,
                "install": None
                if ours is None or there
                else f'pip install "agentkit-llms[{ours.extra}]"',
                "key": _presence(variables),
                "key_variables": list(variables),
            }
        )
    return found


def _presence(variables: tuple[str, ...]) -> str:
    if not variables:
        return "not needed"
    names = [each for name in variables for each in (name, f"{name}S")]
    return "present" if any(os.environ.get(name, "").strip() for name in names) else "missing"


def _configured() -> dict[str, Any]:
    from agentkit.config import load_settings

    try:
        settings = load_settings()
    except ConfigurationError as error:
        return {"source": None, "configured": [], "problem": one_line(error)}
    models = [
        {
            "name": name,
            "model": f"{each.kind}:{key.model}",
            "key": key.fingerprint,
            "default": name == settings.default_provider,
            "fallback": name in settings.fallback,
        }
        for name, each in settings.providers.items()
        for key in each.keys
    ]
    return {"source": settings.source, "configured": models, "problem": None}


def _report(out: Console, found: dict[str, Any]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("provider", "SDK", "key"):
        table.add_column(title, overflow="fold")
    for each in found["providers"]:
        sdk = each["install"] or f"{each['sdk'] or 'its own'}, installed"
        variables = " or ".join(each["key_variables"])
        key = " ".join(part for part in (variables, each["key"]) if part)
        ready = each["installed"] and each["key"] != "missing"
        table.add_row(Text(each["name"], "green" if ready else ""), Text(sdk), Text(key))
    out.print(table)
    if found["problem"]:
        out.print(Text(f"Nothing is configured: {found['problem']}", "dim"), soft_wrap=True)
    for each in found["configured"]:
        role = "default" if each["default"] else "fallback" if each["fallback"] else ""
        line = " ".join(part for part in (each["name"], each["model"], each["key"], role) if part)
        out.print(Text(line), soft_wrap=True)
