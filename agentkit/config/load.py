"""Finds the configuration, reads it and applies the variables that override it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, Final

from agentkit.config.overrides import read_overrides
from agentkit.config.problems import Locations, Path, Problem, raise_problems, redact
from agentkit.config.resolve import find_problems, resolve
from agentkit.config.schema import Settings
from agentkit.config.secrets import Keyring
from agentkit.config.validation import validate, without_problems
from agentkit.config.yaml_text import parse, read_file
from agentkit.errors import ConfigurationError
from agentkit.providers.registry import PROVIDERS, PROVIDERS_BY_KEY

DEFAULT_PATH: Final = "config/llm.yaml"
_ENVIRONMENT: Final = "the environment"


def load_settings(
    path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read the configuration.

    The first of these is used: `path`, the file named by ``AGENTKIT_CONFIG``, ``config/llm.yaml``
    in the current directory, or, without a file, the API keys in the environment. In every case
    ``AGENTKIT_…`` variables override single values. `environ` (default `os.environ`) is only read.

    Raises:
        ConfigurationError: a named file does not exist, a value in it is wrong, or there is no key
            anywhere. The message names file, line, value and remedy, and never shows a key.
        MissingDependencyError: there is a file, and the extra ``config`` is not installed.
    """
    environ = os.environ if environ is None else environ
    file = _find_file(path, environ)
    tree: dict[str, Any] = {}
    locations = Locations(_ENVIRONMENT, {})
    if file is not None:
        tree, locations = parse(read_file(file), file)
    locations = _apply_overrides(tree, locations, environ)
    if file is None:
        _add_providers_with_keys(tree, environ)
    validated = validate(tree)
    directory = FilePath() if file is None else FilePath(file).parent
    keyring = Keyring(environ, directory)
    if isinstance(validated, list):
        raise_problems([*validated, *_others(tree, validated, locations, keyring)], locations)
    return resolve(validated, locations, keyring)


def _others(
    tree: dict[str, Any], found: list[Problem], locations: Locations, keyring: Keyring
) -> list[Problem]:
    """The problems, such as missing variables, of the values that are not wrong themselves."""
    rest, removed = without_problems(tree, found)
    validated = validate(rest)
    if isinstance(validated, list):
        return []
    return [
        each
        for each in find_problems(validated, locations, keyring)
        if not any(_is_within(each.path, path) or _is_within(path, each.path) for path in removed)
    ]


def _is_within(inner: Path, outer: Path) -> bool:
    return inner[: len(outer)] == outer


def is_configured(environ: Mapping[str, str] | None = None) -> bool:
    """Whether `load_settings` finds a file, or a key in the environment."""
    environ = os.environ if environ is None else environ
    return (
        _find_file(None, environ) is not None
        or bool(_providers_with_keys(environ))
        or any(path[0] == "providers" for path in read_overrides(environ))
    )


def _providers_with_keys(environ: Mapping[str, str]) -> list[str]:
    return [
        kind
        for kind in PROVIDERS_BY_KEY
        if any(environ.get(name, "").strip(" ,") for name in PROVIDERS[kind].all_key_variables)
    ]


def _find_file(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str | None:
    if path is not None:
        return os.fspath(path)
    named = environ.get("AGENTKIT_CONFIG", "").strip()
    if named:
        return named
    return DEFAULT_PATH if FilePath(DEFAULT_PATH).is_file() else None


def _apply_overrides(
    tree: dict[str, Any], locations: Locations, environ: Mapping[str, str]
) -> Locations:
    """Set the values of the variables in `tree`; the locations with theirs."""
    lines = dict(locations.lines)
    for path, (value, variable) in read_overrides(environ).items():
        parent = tree
        for part in path[:-1]:
            parent = _child(parent, str(part), variable)
        parent[str(path[-1])] = value
        lines = {known: line for known, line in lines.items() if known[: len(path)] != path}
        lines[path] = variable
        for length in range(1, len(path)):
            lines.setdefault(path[:length], variable)
    return Locations(locations.source, lines)


def _child(tree: dict[str, Any], name: str, variable: str) -> dict[str, Any]:
    """The mapping `name` in `tree`, created if it is not there yet."""
    if tree.get(name) is None:
        tree[name] = {}
    child = tree[name]
    if not isinstance(child, dict):
        raise ConfigurationError(
            f"{variable} sets a part of `{redact(name)}`, which is not a mapping",
            hint="change it in the file, or unset the variable",
        )
    return child


def _add_providers_with_keys(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Without a file: add every provider that has a key in the environment."""
    providers = tree.setdefault("providers", {})
    if not isinstance(providers, dict):
        return  # a variable set it to something else, which is reported with the other problems
    for kind in _providers_with_keys(environ):
        providers.setdefault(kind, {})
    if not providers:
        usual = " or ".join(PROVIDERS[kind].key_variables[-1] for kind in PROVIDERS_BY_KEY)
        raise ConfigurationError(
            f"no configuration: AGENTKIT_CONFIG is not set, {DEFAULT_PATH} does not exist, and "
            "the environment contains no API key",
            hint=f"set a key ({usual}), or write {DEFAULT_PATH}",
        )
