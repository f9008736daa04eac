"""Checks the values of a file against the schema and explains every violation."""

from __future__ import annotations

import copy
import difflib
from typing import Any

from pydantic import ValidationError

from agentkit.config.problems import Path, Problem, redact
from agentkit.config.schema import File, Limits, Provider


def validate(tree: dict[str, Any]) -> File | list[Problem]:
    """`tree` as a `File`, or everything that is wrong with its values."""
    try:
        return File.model_validate(_with_empty_providers(tree))
    except ValidationError as error:
        return [_problem(each, tree) for each in error.errors(include_url=False)]


def without_problems(
    tree: dict[str, Any], problems: list[Problem]
) -> tuple[dict[str, Any], list[Path]]:
    """A copy of `tree` without the values that are wrong, and the paths that this concerns."""
    rest = copy.deepcopy(tree)
    removed: list[Path] = []
    for problem in problems:
        path = problem.path
        if is_field_beside_providers(path, tree):
            removed.append(("providers", provider_before(path, tree) or ""))
        while path and not _remove(rest, path):
            path = path[:-1]
        removed.append(path)
    return rest, removed


def _remove(tree: dict[str, Any], path: Path) -> bool:
    """Delete the value of a mapping at `path`; False if it is an item of a list, or not there."""
    parent: Any = tree
    for part in path[:-1]:
        parent = parent.get(part) if isinstance(parent, dict) else None
    return isinstance(parent, dict) and parent.pop(path[-1], parent) is not parent


def _with_empty_providers(tree: dict[str, Any]) -> dict[str, Any]:
    """``openai:`` without a value is a provider with all its defaults."""
    providers = tree.get("providers")
    if not isinstance(providers, dict):
        return tree
    filled = {name: {} if value is None else value for name, value in providers.items()}
    return {**tree, "providers": filled}


def _problem(error: Any, tree: dict[str, Any]) -> Problem:
    path: Path = tuple(error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        if len(path) == 1 and path[0] in Provider.model_fields:
            return Problem(path, "belongs to a provider", _indent_below(None))
        return Problem(path, "unknown key", _suggest_key(path))
    if is_field_beside_providers(path, tree):
        return Problem(path, "is not a provider", _indent_below(provider_before(path, tree)))
    if kind == "missing":
        return Problem(path[:-1], f"`{path[-1]}` is missing", "begin with `providers:`")
    value = _value_at(tree, path)
    if "api_keys" in path:
        return Problem(path, *_key_problem(value))
    shown = redact(value)
    if "remedy" in context:
        return Problem(path, f"{shown}: {error['msg']}", context["remedy"])
    if kind == "too_short":
        return Problem(path, "is empty", "fill it in, or leave it out")
    message = error["msg"][:1].lower() + error["msg"][1:]
    if path[-1] == "max_retries":
        return Problem(path, f"{shown}: {message}", "it counts attempts: 1 is a single attempt")
    return Problem(path, f"{shown}: {message}", _remedy(kind, context))


def is_field_beside_providers(path: Path, tree: dict[str, Any]) -> bool:
    """Whether `path` is a provider's field that is indented like the providers themselves."""
    beside = len(path) == 2 and path[0] == "providers" and path[1] in Provider.model_fields
    return beside and not isinstance(_value_at(tree, path), dict)


def provider_before(path: Path, tree: dict[str, Any]) -> str | None:
    """The provider above a field that is not indented, which it probably belongs to."""
    names = list(tree["providers"])
    above = [name for name in names[: names.index(path[1])] if name not in Provider.model_fields]
    return above[-1] if above else None


def _indent_below(provider: str | None) -> str:
    where = f"`{redact(provider)}`" if provider else "the provider that it belongs to"
    return f"indent it further, below {where}"


def _key_problem(value: Any) -> tuple[str, str]:
    if value == []:
        return "is empty", "list at least one key, or leave it out to use the variables"
    return "a key that is not a string", "put it in quotes"


def _remedy(kind: str, context: dict[str, Any]) -> str:
    if kind == "literal_error":
        return f"use {context['expected']}"
    if kind in {"greater_than_equal", "greater_than"}:
        return "use a larger number, or leave it out for the default"
    if kind.endswith("_type") and kind.startswith(("int", "float")):
        return "use a number without quotes"
    return "see `agentkit config schema`"


def _suggest_key(path: Path) -> str:
    model = File if len(path) == 1 else Limits if "rate_limits" in path else Provider
    known = list(model.model_fields)
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"possible here: {', '.join(known)}"


def _value_at(tree: Any, path: Path) -> Any:
    """The value at `path`; an index of a single value that is not in a list is the value itself."""
    for part in path:
        if isinstance(part, int) and not isinstance(tree, list):
            continue
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            break
    return tree
