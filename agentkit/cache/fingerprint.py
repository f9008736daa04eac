"""What makes two requests the same: the key of a request, and the fingerprint of a callable."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from hashlib import sha256
from types import CodeType, FunctionType
from typing import Any, Final

from agentkit.types import Message, MessageRole, Request

SCHEMA: Final = 1
"""Version of the key's layout; a change makes every older answer a miss."""

_ATOMS: Final = frozenset({str, int, float, bool, type(None)})
_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def request_key(request: Request, *, model: str, fingerprint: str, namespace: str) -> str | None:
    """The response cache's key for `request` at one model: SHA-256, 64 hex digits.

    It covers everything that affects the answer: the schema version, the registered name of the
    model, the callable's fingerprint, prompt or messages, all parameters, tools, the response
    format and the namespace. It leaves out `stream` (a stored answer replays as a stream) and the
    messages' `metadata` (which never leaves the process).

    None when a part has no canonical JSON: anything but str, int, finite float, bool, None, and
    lists, tuples and dicts with str keys of these, by exact type. Tuples count as lists.
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
        text = _encode(
            [SCHEMA, namespace, model, fingerprint, prompt, messages, params, tools, shape]
        )
    except (TypeError, ValueError, RecursionError):
        return None
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any) -> bool:
    """Whether JSON says everything about `value`."""
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
    return [MessageRole(message.role).value, content, calls, message.tool_call_id]


def callable_fingerprint(fn: Any, metadata: Mapping[str, Any]) -> str | None:
    """What `fn` does, as 64 hex digits that mean the same in another process.

    It covers module and qualified name, bytecode, names and constants (nested functions too),
    defaults, closure values, and of the globals that the code reads the constants (str, bytes,
    numbers, bool, None) and the functions of the same module. `functools.partial` is taken apart.
    A change of anything else that the code reaches, such as an imported function or an object held
    in a global, is not seen: say it with ``metadata["version"]`` (a text or a number), which stands
    for the code; module and qualified name stay part of the fingerprint.

    Text such as ``"openai:<model>"`` identifies itself.

    None when nothing in here identifies `fn`: a callable object or a bound method without a
    version, or a function that closes over an object. Its answers stay in the memory tier.
    """
    if isinstance(fn, str):
        text = _encode([SCHEMA, "provider", fn, metadata.get("version")])
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
        text = _encode([SCHEMA, str(named.__module__), str(named.__qualname__), what])
    except (_OpaqueError, ValueError, RecursionError):
        return None
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _OpaqueError(Exception):
    """A value that has no content of its own to compare."""


class _Reader:
    """Turns functions and values into nested lists of texts, without addresses and line numbers."""

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
        """The constants and neighbours that the code reads; what it assigns is no constant."""
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
