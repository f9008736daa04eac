"""``AGENTKIT_…`` variables over what a file says, collected by pydantic-settings.

``AGENTKIT_DEADLINE=60`` sets ``deadline``, ``AGENTKIT_PROVIDERS__OPENAI__TIMEOUT=20`` sets the
``timeout`` of the provider ``openai``. A value is read as it would be in the file, with commas
between the entries of a list; an empty variable counts as unset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agentkit.config.problems import Path, missing
from agentkit.config.yaml_text import scalar

PREFIX: Final = "AGENTKIT_"
BETWEEN: Final = "__"
ELSEWHERE: Final = ("AGENTKIT_CONFIG", "AGENTKIT_CACHE", "AGENTKIT_CACHE_DIR")
"""Variables of the same prefix that mean something else."""

OVERRIDABLE: Final = (
    "default_provider", "fallback", "deadline", "max_retries", "response_cache", "providers",
)  # fmt: skip
"""The fields of a file that a variable may set, or set a part of."""

_TEXTS: Final = ("fallback", "models")
"""Lists of text, where a number is a name as well."""


def overrides(environ: Mapping[str, str]) -> dict[Path, tuple[Any, str]]:
    """What the variables set: the value and the variable's name, by path.

    Raises:
        MissingDependencyError: there is such a variable, and pydantic-settings is not installed.
    """
    names = {
        name.upper(): name for name, value in environ.items() if is_override(name) and value.strip()
    }
    if not names:
        return {}
    found: dict[Path, tuple[Any, str]] = {}
    for path, value in _leaves(_collect({name: environ[name] for name in names.values()})):
        variable = PREFIX + BETWEEN.join(str(part) for part in path).upper()
        found[path] = (_read(path, value), names.get(variable, variable))
    return found


def is_override(name: str) -> bool:
    """Whether the variable `name` sets something that a file could set."""
    upper = name.upper()
    if not upper.startswith(PREFIX) or upper in ELSEWHERE:
        return False
    return upper.removeprefix(PREFIX).partition(BETWEEN)[0].lower() in OVERRIDABLE


def _collect(variables: dict[str, str]) -> dict[str, Any]:
    """What pydantic-settings makes of `variables`: nested mappings of text."""
    try:
        from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
    except ModuleNotFoundError:
        first = min(variables)
        raise missing("pydantic-settings", f"reading the variable {first}") from None

    class Overrides(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix=PREFIX, env_nested_delimiter=BETWEEN, enable_decoding=False
        )
        default_provider: str = ""
        fallback: str = ""
        deadline: str = ""
        max_retries: str = ""
        response_cache: str = ""
        providers: dict[str, dict[str, Any]] = {}

    class Given(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name.lower(): value for name, value in variables.items()}

    return Given(Overrides)()


def _leaves(tree: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _read(path: Path, text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if path[-1] == "api_keys":
        return text
    parts = [part.strip() for part in text.split(",")]
    if path[-1] in _TEXTS:
        return parts
    return [scalar(part) for part in parts] if len(parts) > 1 else scalar(text)
