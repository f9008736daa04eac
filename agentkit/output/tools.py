"""Functions and schemas as tools: the definitions a provider receives, and checked arguments.

A function's parameters become the JSON schema of the tool's arguments, its docstring the
description; the lines of a Google-style ``Args:`` section describe the parameters.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    overload,
)
from typing import get_type_hints as _resolve

from agentkit.errors import ConfigurationError, ToolError
from agentkit.types import Message, ToolCall, ToolSpec
from agentkit.types.message import Effect

if TYPE_CHECKING:
    from pydantic import BaseModel

F = TypeVar("F")

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""The names of tools that every provider accepts."""
_SECTION: Final = re.compile(
    r"^(?:Args|Arguments|Parameters):[ \t]*\n((?:[ \t]+.*\n|[ \t]*\n)*)", re.MULTILINE
)
_ENTRY: Final = re.compile(r"\*{0,2}(\w+)[ \t]*(?:\(.*?\))?:[ \t]*(.*)")


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The run that calls a tool.

    A function receives it in a parameter annotated with this class; the model does not see that
    parameter.

    Attributes:
        agent: the agent's name.
        call_id: the id of the tool call.
        step: the step of the run that made the call, from 1.
        messages: the conversation up to and including the tool call.
        effect_key: names this effect: the same in every retry and resume of the run, in every
            process, and different for every other call. Send it as the idempotency key of what
            the tool calls.
        run_id: the id of the run; a random one if `Agent.run` was given none.
    """

    agent: str
    call_id: str
    step: int
    messages: tuple[Message, ...]
    effect_key: str = ""
    run_id: str = ""


class BoundArguments(NamedTuple):
    """Checked arguments of a call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Parameters:
    """The parameters of a function that a model may set: their JSON schema, and their check.

    Excluded are `self`, the parameters that a `functools.partial` has set, those of type
    `ToolContext`, and ``*args``. A function with ``**kwargs`` accepts further arguments.

    Raises:
        ConfigurationError: a parameter has no JSON schema, or the function has no signature.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._tool = tool_name(fn)
        described = descriptions(fn)
        hints = self._hints(fn)
        preset = fn.keywords if isinstance(fn, functools.partial) else {}
        self._preset = frozenset(preset)
        self._fields: dict[str, inspect.Parameter] = {}
        self._contexts: list[str] = []
        self._open = False
        definitions: dict[str, Any] = {}
        for name, parameter in self._signature(fn).parameters.items():
            annotation = hints.get(name, Any)
            if parameter.kind is parameter.VAR_KEYWORD:
                self._open = True
            elif ToolContext in (annotation, *get_args(annotation)):
                self._contexts.append(name)
            elif parameter.kind is not parameter.VAR_POSITIONAL and name not in preset:
                field = f"argument_{len(definitions)}"  # any name may be a method of the model
                self._fields[field] = parameter
                definitions[field] = _field(annotation, parameter, described.get(name))
        self._model = self._create_model(definitions)
        self.schema: dict[str, Any] = self._create_schema()

    def bind(self, arguments: Any, context: ToolContext | None = None) -> BoundArguments:
        """`arguments` as the function expects them, converted to its types.

        Omitted arguments stay omitted, so that the function's own defaults apply.

        Raises:
            ToolError: the arguments are invalid; the message names each path.
        """
        from pydantic import ValidationError

        from agentkit.output.violations import violations

        if not isinstance(arguments, Mapping):
            kind = type(arguments).__name__
            raise ToolError(f"the arguments of {self._tool} must be a JSON object, got {kind}")
        try:
            checked = self._model.model_validate(dict(arguments))
        except ValidationError as error:
            lines = "; ".join(violations(error))
            raise ToolError(f"invalid arguments for {self._tool}: {lines}") from None
        args, kwargs = [], dict(checked.model_extra or {})
        if not self._preset.isdisjoint(kwargs):
            names = ", ".join(sorted(f"$.{name}" for name in self._preset & kwargs.keys()))
            raise ToolError(f"invalid arguments for {self._tool}: {names}: not yours to set")
        for field, parameter in self._fields.items():
            if parameter.kind is parameter.POSITIONAL_ONLY:
                args.append(getattr(checked, field))
            elif field in checked.model_fields_set:
                kwargs[parameter.name] = getattr(checked, field)
        kwargs.update(dict.fromkeys(self._contexts, context))
        return BoundArguments(tuple(args), kwargs)

    def _signature(self, fn: Callable[..., Any]) -> inspect.Signature:
        try:
            signature = inspect.signature(fn)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"the signature of tool {self._tool!r} cannot be read",
                hint="wrap it in a function with annotated parameters",
            ) from error
        first = next(iter(signature.parameters.values()), None)
        if first and first.name in ("self", "cls") and first.annotation is first.empty:
            raise ConfigurationError(
                f"tool {self._tool!r} is an unbound method",
                hint="pass the bound method: instance.method",
            )
        return signature

    def _hints(self, fn: Callable[..., Any]) -> dict[str, Any]:
        source: Any = inspect.unwrap(_function(fn))
        source = getattr(source, "__func__", source)
        try:
            own = {k: v for k, v in _annotations(source).items() if k != "return"}
            holder = SimpleNamespace(__annotations__=own)
            return _resolve(holder, getattr(source, "__globals__", {}), include_extras=True)
        except Exception as error:
            raise ConfigurationError(
                f"the annotations of tool {self._tool!r} cannot be resolved: {error}",
                hint="import their types where the function is defined, at module level",
            ) from error

    def _create_model(self, definitions: dict[str, Any]) -> type[BaseModel]:
        from pydantic import ConfigDict, create_model

        config = ConfigDict(extra="allow" if self._open else "forbid")
        try:
            return create_model(self._tool, __config__=config, **definitions)
        except Exception as error:
            raise self._no_schema(error) from error

    def _create_schema(self) -> dict[str, Any]:
        from pydantic.json_schema import GenerateJsonSchema

        class Plain(GenerateJsonSchema):
            """Without titles: they repeat the names and cost tokens."""

            ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

            def field_title_should_be_set(self, schema: Any) -> bool:
                return False

        try:
            schema = self._model.model_json_schema(schema_generator=Plain)
        except Exception as error:
            raise self._no_schema(error) from error
        del schema["title"]
        return {"type": "object", **schema}

    def _no_schema(self, error: Exception) -> ConfigurationError:
        return ConfigurationError(
            f"tool {self._tool!r} has parameters without a JSON schema: {error}",
            hint="annotate them with types that pydantic knows",
        )


@overload
def tool(each: F, /) -> F: ...
@overload
def tool(
    *,
    effect: Effect | None = None,
    approve: bool | Callable[[ToolCall], bool] = False,
    resolve: Callable[..., Any] | None = None,
) -> Callable[[F], F]: ...
def tool(
    each: Any = None,
    /,
    *,
    effect: Effect | None = None,
    approve: bool | Callable[[ToolCall], bool] = False,
    resolve: Callable[..., Any] | None = None,
) -> Any:
    """Declare how an agent may call a function as a tool: its effect, and who approves its calls.

    A decorator, with or without arguments, which does not change the function. For a `ToolSpec`,
    such as a tool of an MCP server, ``tool(effect="none")(spec)`` returns a new spec.

    Args:
        effect: what a second call with the same arguments would do. ``"none"``: the tool only
            reads. ``"idempotent"``: a second call changes nothing more. ``"once"``: it would act
            again. Without it (None) the effect is unknown, and such a tool is treated like
            ``"once"``. A call of these two that was started and has no recorded result is in
            doubt, and is not repeated.
        approve: whether a call must be approved before it is made, or a function that decides for
            each `ToolCall`. Needs a journal.
        resolve: is called with a `ToolCall` in doubt, and with its `ToolContext` if it takes two
            arguments. It returns the result of the call if it was carried out, ``"not done"`` if it
            was not (it is carried out then), or ``"unknown"``. May be async.

    Raises:
        ConfigurationError: an argument has another value.
    """
    if effect not in (None, *get_args(Effect)):
        raise ConfigurationError(
            f"effect is {effect!r}", hint='use "none", "idempotent" or "once", or leave it out'
        )
    if not isinstance(approve, bool) and not callable(approve):
        raise ConfigurationError(f"approve is {approve!r}", hint="use True, or a function")
    if resolve is not None and not callable(resolve):
        raise ConfigurationError(f"resolve is {resolve!r}", hint="give a function")

    def decorate(decorated: Any) -> Any:
        if isinstance(decorated, ToolSpec):
            return replace(decorated, effect=effect, approve=approve, resolve=resolve)
        decorated.agentkit_tool = {"effect": effect, "approve": approve, "resolve": resolve}
        return decorated

    return decorate if each is None else decorate(each)


def tool_specs(tools: Sequence[Any] | None) -> tuple[ToolSpec, ...]:
    """Each tool as a `ToolSpec`: functions, specs, or dicts as OpenAI and Anthropic define them.

    Raises:
        ConfigurationError: not a tool, or two tools of one name.
    """
    if isinstance(tools, str | Mapping) or callable(tools):
        raise ConfigurationError(f"tools is {tools!r}", hint="give a list, such as tools=[search]")
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
        f"{tool!r} is not a tool", hint="give a function, a ToolSpec or a dict with name and schema"
    )


def tool_name(fn: Callable[..., Any]) -> str:
    """The name of a function, of the function in a partial, or of a callable object's class."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return str(getattr(fn, "__name__", None) or type(fn).__name__)


def description_of(fn: Callable[..., Any]) -> str:
    """The docstring without its ``Args:`` section."""
    return re.sub(r"\n{3,}", "\n\n", _SECTION.sub("\n", _documentation(fn))).strip()


def descriptions(fn: Callable[..., Any]) -> dict[str, str]:
    """The descriptions in the ``Args:`` section of the docstring, by parameter."""
    section = _SECTION.search(_documentation(fn))
    found: dict[str, str] = {}
    if section is None:
        return found
    name = ""
    lines = inspect.cleandoc("\n" + section[1]).splitlines()
    for line in lines:
        entry = None if line.startswith((" ", "\t")) else _ENTRY.fullmatch(line)
        if entry:
            name = entry[1]
            found[name] = entry[2].strip()
        elif name and line.strip():
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _of_mapping(tool: Mapping[str, Any]) -> ToolSpec:
    inner = tool.get("function", tool)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"a tool has no name: {dict(tool)!r}", hint="set 'name'")
    schema = inner.get("parameters") or inner.get("input_schema") or {"type": "object"}
    return ToolSpec(name, str(inner.get("description") or ""), schema)


def _of_function(fn: Callable[..., Any]) -> ToolSpec:
    name = tool_name(fn)
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a tool",
            hint="use a named function, of at most 64 letters, digits, '_' and '-'",
        )
    rules = getattr(_function(fn), "agentkit_tool", None) or getattr(fn, "agentkit_tool", {})
    return ToolSpec(name, description_of(fn), Parameters(fn).schema, fn, **rules)


def _function(fn: Any) -> Any:
    """The function that has the annotations and the docstring of a callable."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if inspect.isclass(fn):
        return fn.__init__
    return fn if inspect.isroutine(fn) else type(fn).__call__


def _annotations(function: Any) -> Mapping[str, Any]:
    return getattr(function, "__annotations__", None) or {}


def _documentation(fn: Any) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    text = inspect.getdoc(fn if inspect.isclass(fn) else _function(fn))
    if not text and not inspect.isroutine(fn):
        text = inspect.getdoc(fn)
    return f"{text or ''}\n"


def _field(annotation: Any, parameter: inspect.Parameter, described: str | None) -> Any:
    from pydantic import Field

    description = _own_description(annotation) or described
    default = ... if parameter.default is parameter.empty else parameter.default
    extra: dict[str, Any] = {"description": description} if description else {}
    return annotation, Field(default, alias=parameter.name, **extra)


def _own_description(annotation: Any) -> str | None:
    """The text in ``Annotated[int, "text"]`` or ``Annotated[int, Field(description="text")]``."""
    if get_origin(annotation) is not Annotated:
        return None
    for extra in get_args(annotation)[1:]:
        text = extra if isinstance(extra, str) else getattr(extra, "description", None)
        if isinstance(text, str):
            return text
    return None
