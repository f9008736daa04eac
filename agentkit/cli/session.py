"""What the commands that ask models share: whom they ask, and how text reaches a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentkit.errors import ConfigurationError

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", metavar="PROVIDER:MODEL",
        help="Whom to ask; the first is asked first, each further one is a fallback. "
        "Default: the configuration.",
        show_default=False,
    ),
]  # fmt: skip
BaseUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The address of every --model.", show_default=False),
]
System = Annotated[
    str | None, typer.Option(metavar="TEXT", help="A system prompt.", show_default=False)
]

_CONTROL = dict.fromkeys((*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)))


def manager_of(models: list[str] | None, base_url: str | None = None, **options: Any) -> LLMManager:
    """A manager of `models`, each registered under its own text; without any, the configured one.

    Its response cache is off: who asks on a command line wants to be answered, not reminded.

    Raises:
        ConfigurationError: an unknown provider, nothing configured.
    """
    options["enable_caching"] = False
    if not models:
        if base_url is not None:
            raise ConfigurationError("--base-url needs a --model", hint="name the model at it")
        return _configured(options)
    from agentkit.manager.manager import LLMManager
    from agentkit.manager.targets import ProviderSpec

    manager = LLMManager(**options)
    settings = {} if base_url is None else {"base_url": base_url}
    names = list(dict.fromkeys(models))
    for name in names:
        manager.register_model(name, ProviderSpec(name, settings))
    manager.set_active_model(names[0])
    manager.set_fallback_chain(names)
    return manager


def _configured(options: dict[str, Any]) -> LLMManager:
    from agentkit.config import load_settings
    from agentkit.config.manager import manager_for

    try:
        settings = load_settings()
    except ConfigurationError as error:
        hint = "name a model: --model openai:<model>; `agentkit models` shows what is there"
        raise ConfigurationError(error.message, hint=hint) from error
    return manager_for(settings, **options)


def harmless(text: str) -> str:
    """`text` without what could steer a terminal; line ends and tabs stay."""
    return text.translate(_CONTROL)


def say(text: str) -> None:
    """Put a piece of an answer on stdout at once; a pipe gets it untouched."""
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
