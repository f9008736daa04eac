"""Functions and schemas as tools: what a provider is told, and checked arguments on the way back.

A function's parameters become the JSON schema of the tool's arguments, its docstring the
description; ``Args:`` lines describe the parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from agentkit.errors import ConfigurationError
from agentkit.types import ToolSpec


def tool_specs(tools: Sequence[Any] | None) -> tuple[ToolSpec, ...]:
    """Each tool as a `ToolSpec`: functions, specs, or a vendor's own dicts (OpenAI, Anthropic).

    Raises:
        ConfigurationError: not a tool, or two of one name.
    """
    specs = tuple(tool_spec(each) for each in tools or ())
    names = [spec.name for spec in specs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigurationError(f"two tools are called {twice[0]!r}", hint="rename one")
    return specs


def tool_spec(tool: Any) -> ToolSpec:
    """One tool as a `ToolSpec`. Raises `ConfigurationError`."""
    if isinstance(tool, ToolSpec):
        return tool
    if isinstance(tool, Mapping):
        return _of_mapping(tool)
    if callable(tool):
        return _of_function(tool)
    raise ConfigurationError(
        f"{tool!r} is no tool", hint="give a function, a ToolSpec or a dict with name and schema"
    )


def _of_mapping(tool: Mapping[str, Any]) -> ToolSpec:
    inner = tool.get("function", tool)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"a tool has no name: {dict(tool)!r}", hint="set 'name'")
    schema = inner.get("parameters") or inner.get("input_schema") or {"type": "object"}
    return ToolSpec(name, str(inner.get("description") or ""), schema)


def _of_function(fn: Callable[..., Any]) -> ToolSpec:
    from pydantic import TypeAdapter

    name = getattr(fn, "__name__", None) or type(fn).__name__
    try:
        adapter: Any = TypeAdapter(cast("Any", fn))
        schema = adapter.json_schema()
    except Exception as error:
        raise ConfigurationError(
            f"tool {name!r} has parameters without a JSON schema: {error}",
            hint="annotate them with types that pydantic knows",
        ) from error
    return ToolSpec(name, inspect.getdoc(fn) or "", _arguments(schema), fn)


def _arguments(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "object":
        return schema
    if "properties" in schema:
        return {**schema, "type": "object"}
    return {"type": "object", "properties": {}}
