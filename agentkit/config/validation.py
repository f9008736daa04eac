"""Checks the values of a file against the schema and explains every violation."""

from __future__ import annotations

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
        return Problem(path, "unknown key", _suggest_key(path))
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
    return Problem(path, f"{shown}: {message}", _remedy(kind, context))


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
