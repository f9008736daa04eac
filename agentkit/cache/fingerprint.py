"""Identity of requests: the key of a request, and the fingerprint of a callable."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from hashlib import sha256
from types import CodeType, FunctionType
from typing import Any, Final

from agentkit.types import Message, MessageRole, Request

SCHEMA: Final = 1
"""Version of the key's layout. Responses that were stored under another version are misses."""

_ATOMS: Final = frozenset({str, int, float, bool, type(None)})
_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def request_key(request: Request, *, model: str, fingerprint: str, namespace: str) -> str | None:
    """The key of `request` to one model in the response cache: 64 hex digits of SHA-256.

    It covers everything that affects the response: the schema version, the registered name of the
    model, the callable's fingerprint, prompt or messages, all parameters, tools, the response
    format and the namespace. It leaves out `stream`, as a stored response can be replayed as a
    stream, and the messages' `metadata`, which never leaves the process.

    None if a part has no canonical JSON. These types have one: str, int, finite float, bool, None,
    and lists, tuples and dicts with str keys of these. Subclasses do not count, and a tuple equals
    the same list.
    """
    prompt: Any = request.prompt
    if prompt is not None and not isinstance(prompt, str):
        return None
    try:
        params = request.params
        if type(params) is not dict:
            params = dict(params)
        for name, value in params.items():
            if type(name) is not str or (type(value) not in _ATOMS and not _plain(value)):
                return None
        tools = [[each.name, each.description, each.parameters] for each in request.tools]
        shape = request.response_format
        if shape is not None and type(shape) is not dict:
            shape = dict(shape)
        if (tools and not _plain(tools)) or (shape is not None and not _plain(shape)):
            return None
        messages = [_message(message) for message in request.messages] if request.messages else ()
        parts = (  # one JSON list, whose parts are mostly empty
            _head(namespace, model, fingerprint),
            _encode(prompt),
            _encode(messages) if messages else "[]",
            _encode(params) if params else "{}",
            _encode(tools) if tools else "[]",
            "null" if shape is None else _encode(shape),
        )
        text = f"[{','.join(parts)}]"
    except (TypeError, ValueError, RecursionError):
        return None
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@functools.lru_cache(maxsize=1024)
def _head(namespace: str, model: str, fingerprint: str) -> str:
    """What the keys of all requests to one model begin with."""
    return ",".join(map(_encode, (SCHEMA, namespace, model, fingerprint)))


def _plain(value: Any) -> bool:
    """Whether JSON represents `value` completely."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is dict:
        return all(type(key) is str and _plain(item) for key, item in value.items())
    return (kind is list or kind is tuple) and all(map(_plain, value))


def _message(message: Message) -> list[Any]:
    content: Any = message.content
    if type(content) is not str:
        content = [part if type(part) is dict else dict(part) for part in content]
    calls = [
        [call.id, call.name, arguments if type(arguments) is dict else dict(arguments)]
        for call in message.tool_calls
        for arguments in (call.arguments,)
    ]
    if not (_plain(content) and _plain(calls) and _plain(message.tool_call_id)):
        raise TypeError
    known = [MessageRole(message.role).value, content, calls, message.tool_call_id]
    return known if message.state is None else [*known, message.state.to_dict()]


def callable_fingerprint(
    fn: Any, metadata: Mapping[str, Any], params: Mapping[str, Any] | None = None
) -> str | None:
    """A fingerprint of what `fn` does: 64 hex digits, the same in every process.

    It covers the module and qualified name, the bytecode with its names and constants (nested
    functions included), defaults, closure values, and two kinds of globals that the code reads:
    constants (str, bytes, numbers, bool, None) and functions of the same module. The parts of a
    `functools.partial` are covered, too. A change of anything else, such as an imported function or
    an object in a global variable, goes unnoticed. Set ``metadata["version"]`` (a string or a
    number) in such a case: it replaces the code in the fingerprint, beside the module and the
    qualified name.

    A string such as ``"openai:<model>"`` identifies itself. `params` are sent with every call.

    None if `fn` cannot be identified (a callable object or a bound method without a version, or a
    function that closes over an object), or if `params` are not JSON. Its responses are kept in the
    memory tier only.
    """
    if params and not _plain(dict(params)):
        return None
    own = [dict(params)] if params else []
    if isinstance(fn, str):
        text = _encode([SCHEMA, "provider", fn, metadata.get("version"), *own])
        return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    inner = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    version = metadata.get("version")
    try:
        if version is None:
            what = _Reader().read(fn)
        elif type(version) in _ATOMS:
            what = ["version", type(version).__name__, repr(version)]
        else:
            return None
        names = [str(named.__module__), str(named.__qualname__)]
        text = _encode([SCHEMA, *names, what, *own])
    except (_OpaqueError, ValueError, RecursionError):
        return None
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _OpaqueError(Exception):
    """A value without content that could be compared."""


class _Reader:
    """Describes functions and values as nested lists, without addresses and line numbers."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def read(self, value: Any) -> list[Any]:
        kind = type(value)
        if kind in _ATOMS or kind in (bytes, complex, type(...)):
            return [kind.__name__, repr(value)]
        if kind in (tuple, list):
            return [kind.__name__, *map(self.read, value)]
        if kind in (set, frozenset):
            return [kind.__name__, *sorted(map(self.read, value), key=repr)]
        if kind is dict:
            pairs = [[self.read(key), self.read(item)] for key, item in value.items()]
            return [kind.__name__, *sorted(pairs, key=repr)]
        if kind is functools.partial:
            return ["partial", *map(self.read, (value.func, value.args, value.keywords))]
        if kind is FunctionType:
            return self._function(value)
        raise _OpaqueError

    def _function(self, function: FunctionType) -> list[Any]:
        if id(function) in self._seen:
            return ["again", self._seen[id(function)]]
        self._seen[id(function)] = len(self._seen)
        cells = function.__closure__ or ()
        return [
            "function",
            self._code(function.__code__),
            self.read(function.__defaults__),
            self.read(function.__kwdefaults__),
            [self.read(cell.cell_contents) for cell in cells],
            self._globals(function),
        ]

    def _code(self, code: CodeType) -> list[Any]:
        constants = [
            self._code(each) if isinstance(each, CodeType) else self.read(each)
            for each in code.co_consts
        ]
        counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
        names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
        exceptions = code.co_exceptiontable.hex()
        return [code.co_name, code.co_code.hex(), constants, counts, names, exceptions]

    def _globals(self, function: FunctionType) -> list[Any]:
        """The constants and neighbours that the code reads, except those that it also assigns."""
        read, written = _global_names(function.__code__)
        found = []
        for name in sorted(read - written):
            value = function.__globals__.get(name)
            neighbour = type(value) is FunctionType and value.__module__ == function.__module__
            if type(value) in _ATOMS or type(value) is bytes or neighbour:
                try:
                    found.append([name, self.read(value)])
                except _OpaqueError:
                    continue
        return found


def _global_names(code: CodeType) -> tuple[set[str], set[str]]:
    import dis

    read: set[str] = set()
    written: set[str] = set()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            read.add(step.argval)
        elif step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            written.add(step.argval)
    for each in code.co_consts:
        if isinstance(each, CodeType):
            inner_read, inner_written = _global_names(each)
            read |= inner_read
            written |= inner_written
    return read, written
