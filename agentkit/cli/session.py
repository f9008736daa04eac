"""The options of the commands that call models, and the manager that the options describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentkit.errors import ConfigurationError

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="PROVIDER:MODEL",
        help="The model to call; further ones are fallbacks. Default: the configuration.",
        show_default=False,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The base URL of every --model.", show_default=False),
]
System = Annotated[
    str | None, typer.Option(metavar="TEXT", help="A system prompt.", show_default=False)
]


def manager_of(models: list[str] | None, base_url: str | None = None, **options: Any) -> LLMManager:
    """A manager with `models`, or the configured one if there are none, without response cache.

    Raises:
        ConfigurationError: a provider is unknown, or nothing is configured.
    """
    options["enable_caching"] = False
    if not models:
        if base_url is not None:
            raise ConfigurationError("--base-url needs a --model", hint="add --model")
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
    from agentkit.config.load import is_configured
    from agentkit.manager.manager import LLMManager

    if not is_configured():
        raise ConfigurationError(
            "no model: no --model, no configuration file, no API key in the environment",
            hint="add --model openai:<model> (`agentkit models` lists the providers), or set a key "
            "and run `agentkit config init`",
        )
    return LLMManager.from_config(**options)
