"""The options of the commands that call models, and the manager that the options describe."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentkit.cli.completion import complete_model
from agentkit.cli.output import note
from agentkit.errors import ConfigurationError

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager
    from agentkit.policy.price import Price

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="PROVIDER:MODEL",
        help="The model to call; further ones are fallbacks. Default: the configuration.",
        show_default=False,
        autocompletion=complete_model,
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="NAME=VALUE",
        help="A parameter of the model, such as temperature=0.2; may be repeated.",
        show_default=False,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The base URL of every --model.", show_default=False),
]
PriceOption = Annotated[
    str | None,
    typer.Option(
        "--price",
        metavar="INPUT/OUTPUT",
        help="US dollars for 1,000 input and output tokens of every --model, such as 0.003/0.015.",
        show_default=False,
    ),
]
System = Annotated[
    str | None, typer.Option(metavar="TEXT", help="A system prompt.", show_default=False)
]


def params_of(options: list[str] | None) -> dict[str, Any]:
    """The parameters in ``NAME=VALUE`` options; a value that is not JSON is a string.

    Raises:
        ConfigurationError: an option has no name or no value.
    """
    params: dict[str, Any] = {}
    for option in options or ():
        name, separator, value = option.partition("=")
        if not name.strip() or not separator:
            raise ConfigurationError(
                f"-o {option} is not a parameter", hint="write -o temperature=0.2"
            )
        try:
            params[name.strip()] = json.loads(value)
        except ValueError:
            params[name.strip()] = value
    return params


def price_of_option(option: str) -> Price:
    """The price in ``INPUT/OUTPUT``.

    Raises:
        ConfigurationError: it is not two numbers of at least 0.
    """
    from agentkit.policy.price import INPUT, OUTPUT, price_of

    rates = option.split("/")
    try:
        price = price_of({INPUT: float(rates[0]), OUTPUT: float(rates[1])})
    except (ValueError, IndexError):
        price = None
    if price is None or len(rates) != 2:
        raise ConfigurationError(
            f"--price {option} is not a price", hint="write --price 0.003/0.015: input, output"
        )
    return price


@contextmanager
def shown_retries() -> Iterator[None]:
    """Print a line on stderr for each retry and fallback."""
    log = logging.getLogger("agentkit.calls")
    handler, level = _RetryNotes(logging.INFO), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


class _RetryNotes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        target = getattr(record, "fallback_to", None)
        if target is None:
            note(record.getMessage())
        else:
            fields = vars(record)
            reason = str(fields["reason"]).replace("_", " ")
            note(f"{fields['fallback_from']}: {reason}; the next model is {target}")


def manager_of(
    models: list[str] | None,
    base_url: str | None = None,
    *,
    price: str | None = None,
    **options: Any,
) -> LLMManager:
    """A manager with `models`, or the configured one if there are none, without response cache.

    `price` is the ``INPUT/OUTPUT`` of each of `models`.

    Raises:
        ConfigurationError: a provider is unknown, or nothing is configured.
    """
    options["enable_caching"] = False
    if not models:
        if base_url is not None:
            raise ConfigurationError("--base-url needs a --model", hint="add --model")
        if price is not None:
            raise ConfigurationError(
                "--price needs a --model", hint="write `prices` in the configuration file"
            )
        return _configured(options)
    from agentkit.manager.manager import LLMManager
    from agentkit.manager.targets import ProviderSpec

    manager = LLMManager(**options)
    settings = {} if base_url is None else {"base_url": base_url}
    metadata = None if price is None else price_of_option(price).as_metadata()
    names = list(dict.fromkeys(models))
    for name in names:
        manager.register_model(name, ProviderSpec(name, settings), metadata)
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
