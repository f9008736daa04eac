"""Validation of the arguments that an agent is created with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from agentkit.agent.memory import Memory
from agentkit.errors import ConfigurationError


def text(what: str, value: Any) -> str:
    """`value` if it is a non-empty str. Raises `ConfigurationError`, which names `what`."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(
            f"the agent's {what} is {value!r}", hint=f"give a {what} that is a non-empty str"
        )
    return value


def capabilities_of(given: Any) -> tuple[str, ...]:
    """The capabilities as a tuple. Raises `ConfigurationError`."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigurationError(
            f"capabilities is {given!r}", hint='give a list of str, such as ["conversation"]'
        )
    return tuple(text("capability", each) for each in given)


def config_of(given: Any) -> Mapping[str, Any]:
    """A read-only copy of the config, its known keys checked. Raises `ConfigurationError`."""
    if given is None:
        return MappingProxyType({})
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            f"config must be a mapping, got {type(given).__name__}",
            hint='give a dict, such as {"llm_manager": manager}',
        )
    manager = given.get("llm_manager")
    wanted = ("generate", "agenerate")
    if manager is not None and not all(callable(getattr(manager, x, None)) for x in wanted):
        raise ConfigurationError(
            f'config["llm_manager"] is of type {type(manager).__name__} and has no generate() '
            "and agenerate()",
            hint="give an agentkit.LLMManager",
        )
    memory = given.get("memory")
    if memory is not None and not isinstance(memory, Memory):
        raise ConfigurationError(
            f'config["memory"] is of type {type(memory).__name__}', hint="give an agentkit.Memory"
        )
    return MappingProxyType(dict(given))
