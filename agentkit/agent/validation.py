"""Validation of the arguments that an agent is created with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

from agentkit.agent.memory import Memory
from agentkit.errors import ConfigurationError

NO_ROLE: Final[Any] = object()
"""The role of an agent that was given none."""
_READ: Final = ("llm_manager", "memory")
"""The keys of the config that an agent reads; others are the user's own."""


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


def instructions_of(role: str, instructions: Any) -> str:
    """The system prompt of an agent: its role, and its instructions, if it has any.

    Raises:
        ConfigurationError: `instructions` is not a str.
    """
    if not isinstance(instructions, str):
        raise ConfigurationError(
            f"instructions is of type {type(instructions).__name__}", hint="give a str"
        )
    if not instructions.strip():
        return ""
    return f"{role}\n\n{instructions}" if role else instructions


def config_of(given: Any, own: Mapping[str, Any]) -> Mapping[str, Any]:
    """A read-only copy of the config with `own` added, its known keys checked.

    Raises:
        ConfigurationError: a value cannot work, is given twice, or has a misspelt key.
    """
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            f"config must be a mapping, got {type(given).__name__}",
            hint='give a dict, such as {"llm_manager": manager}',
        )
    for key in given:
        close = get_close_matches(str(key), _READ, n=1, cutoff=0.75)
        if close and key not in _READ:
            raise ConfigurationError(
                f"config has the key {key!r}", hint=f"did you mean {close[0]!r}?"
            )
    twice = [key for key in own if given.get(key) is not None]
    if twice:
        raise ConfigurationError(
            f"{twice[0]} is given twice", hint="give it as an argument or in config, not both"
        )
    given = {**given, **own}
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
