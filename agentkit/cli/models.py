"""``agentkit models``: the providers, what each of them needs, and the configured models."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from agentkit.cli.output import AsJson, console, one_line, print_json, print_text
from agentkit.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console


def command(as_json: AsJson = False) -> None:
    """List the providers, their SDKs and keys, and the configured models.

    Shows whether a key is set, never the key itself. Sends nothing.
    """
    found = {"providers": _providers(), **_configured()}
    if as_json:
        print_json(found)
    else:
        _report(console(), found)


def _providers() -> list[dict[str, Any]]:
    from agentkit.providers.registry import PROVIDERS, provider_info, provider_names
    from agentkit.providers.requirements import is_installed

    found = []
    for name in provider_names():
        info = provider_info(name)
        is_ready = name not in PROVIDERS or is_installed(info.sdk)
        found.append(
            {
                "name": name,
                "sdk": info.sdk or None,
                "installed": is_ready,
                "install": None if is_ready else f'pip install "agentkit-llms[{info.extra}]"',
                "key": _key_state(info.all_key_variables),
                "key_variables": list(info.key_variables),
            }
        )
    return found


def _key_state(variables: tuple[str, ...]) -> str:
    if not variables:
        return "not needed"
    return "present" if any(os.environ.get(name, "").strip() for name in variables) else "missing"


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
        is_ready = each["installed"] and each["key"] != "missing"
        table.add_row(Text(each["name"], "green" if is_ready else ""), Text(sdk), Text(key))
    out.print(table)
    if found["problem"]:
        print_text(out, Text(found["problem"], "dim"))
        return
    print_text(out, Text(f"Configured by {found['source']}:", "bold"))
    for each in found["configured"]:
        role = "default" if each["default"] else "fallback" if each["fallback"] else ""
        line = " ".join(part for part in (each["name"], each["model"], each["key"], role) if part)
        print_text(out, Text(f"  {line}"))
