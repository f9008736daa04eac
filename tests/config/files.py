"""Managers from configuration files, asking the local server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentkit import LLMManager, RetryPolicy
from agentkit.config import load_settings
from agentkit.testing import WireServer


def configured(folder: Path, text: str, **options: Any) -> LLMManager:
    """The manager of a configuration file with the content `text`."""
    file = folder / "llm.yaml"
    file.write_text(text, "utf-8")
    options = {"retry": RetryPolicy(base_delay=0.0), **options}
    return LLMManager.from_config(load_settings(file, {}), **options)


def anthropic(server: WireServer, keys: str = "[k1]", more: str = "") -> str:
    """A configuration of the one provider ``anthropic`` at `server`; `more` are its other lines."""
    lines = [f"api_keys: {keys}", f"base_url: {server.anthropic_url}", *more.splitlines()]
    models = [] if "models:" in more else ["models: some-model"]
    return "providers:\n  anthropic:\n" + "".join(f"    {line}\n" for line in lines + models)
