"""Requests and responses by botocore's description of the service, without its way through it.

botocore finds out anew for each value how to check, write and read it, which takes most of the time
of a request. The functions here are made once, from the same description, and deal with common
values. They leave all others to botocore, and with them every message about a wrong value.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from agentkit.providers.transport.http.record import serialize

Check = Callable[[Any], bool]
Read = Callable[[Any], Any]

_SCALARS: Final[dict[str, type]] = {
    "string": str,
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
    "boolean": bool,
}
_OF_TRANSPORT: Final = frozenset({"location", "eventheader", "eventpayload", "jsonvalue"})
"""Traits of what is not simply a member of a JSON object."""
_MODEL: Final = "modelId"
_URI: Final = re.compile(r"([^{}?]*)\{modelId\}([^{}?]*)")


class UnusualValueError(ValueError):
    """botocore has to read the value."""


class RequestWriter:
    """Writes the requests of one operation whose arguments are a model's id and its body.

    `operation` is botocore's description of it.
    """

    def __init__(self, operation: Any) -> None:
        shape = operation.input_shape
        uri = _URI.fullmatch(operation.http["requestUri"])
        members = {name: each for name, each in shape.members.items() if name != _MODEL}
        required = frozenset(shape.metadata.get("required", ())) - {_MODEL}
        parents = frozenset({shape.name})
        self._is_body = _structure_check(members, required, union=False, parents=parents)
        if uri is None or "payload" in shape.serialization:
            self._is_body = _never
        before, after = ("", "") if uri is None else uri.groups()
        self._path = lru_cache(64)(lambda model: f"{before}{quote(model, safe='-._~')}{after}")

    def write(self, arguments: Mapping[str, Any]) -> tuple[str, bytes] | None:
        """The path and the body of a request with valid `arguments`, as botocore writes them.

        None: botocore has to check and to write them.
        """
        model = arguments.get(_MODEL)
        body = {name: each for name, each in arguments.items() if name != _MODEL}
        if type(model) is not str or not model or not self._is_body(body):
            return None
        if None in body.values():  # it would be left out
            return None
        try:
            return self._path(model), serialize(body)
        except (TypeError, ValueError):  # such as half of a surrogate pair
            return None


def reader(shape: Any) -> Read:
    """A function that reads a JSON value as botocore does.

    It raises `UnusualValueError` for a value, or another `ValueError`, that botocore has to read.
    """
    return _reader(shape, frozenset())


def _check(shape: Any, parents: frozenset[str]) -> Check:
    kind, least = shape.type_name, shape.metadata.get("min", -math.inf)
    if shape.name in parents or _OF_TRANSPORT & shape.serialization.keys():
        return _never
    parents |= {shape.name}
    if kind == "structure":
        if shape.is_document_type:
            return _is_document
        required = frozenset(shape.metadata.get("required", ()))
        return _structure_check(
            shape.members, required, union=shape.is_tagged_union, parents=parents
        )
    if kind == "list":
        return _list_check(_check(shape.member, parents), least)
    if kind == "map":
        return _map_check(_check(shape.key, parents), _check(shape.value, parents))
    if kind == "string":
        return _string_check(least)
    if kind in ("float", "double"):
        return lambda value: type(value) in (int, float) and math.isfinite(value) and value >= least
    if kind in ("integer", "long"):
        return lambda value: type(value) is int and value >= least
    if kind == "boolean":
        return lambda value: type(value) is bool
    return _is_bytes if kind == "blob" else _never


def _never(_: Any) -> bool:
    return False


def _is_bytes(value: Any) -> bool:
    return type(value) in (bytes, bytearray)


def _string_check(least: float) -> Check:
    return lambda value: type(value) is str and len(value) >= least


def _structure_check(
    members: Mapping[str, Any], required: frozenset[str], *, union: bool, parents: frozenset[str]
) -> Check:
    checks = {
        name: _never if each.serialization.get("name", name) != name else _check(each, parents)
        for name, each in members.items()
    }

    def check(value: Any) -> bool:
        if type(value) is not dict or (union and len(value) != 1):
            return False
        for name, each in value.items():
            known = checks.get(name)
            if known is None or not known(each):
                return False
        return required <= value.keys()

    return check


def _list_check(member: Check, least: float) -> Check:
    def check(value: Any) -> bool:
        return type(value) in (list, tuple) and len(value) >= least and all(map(member, value))

    return check


def _map_check(key: Check, member: Check) -> Check:
    def check(value: Any) -> bool:
        return type(value) is dict and all(map(key, value)) and all(map(member, value.values()))

    return check


def _is_document(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        return all(type(name) is str for name in value) and all(map(_is_document, value.values()))
    if kind is list:
        return all(map(_is_document, value))
    return kind in (str, int, bool) or value is None or (kind is float and math.isfinite(value))


def _reader(shape: Any, parents: frozenset[str]) -> Read:
    kind = shape.type_name
    if shape.name in parents or _OF_TRANSPORT & shape.serialization.keys():
        return _unusual
    parents |= {shape.name}
    if kind == "structure":
        return _unchanged if shape.is_document_type else _structure_reader(shape, parents)
    if kind == "list":
        return _list_reader(_reader(shape.member, parents))
    if kind == "map":
        return _map_reader(_reader(shape.key, parents), _reader(shape.value, parents))
    if kind == "blob":
        return lambda value: b64decode(value) if type(value) is str else _unusual(value)
    return _scalar_reader(_SCALARS[kind]) if kind in _SCALARS else _unusual


def _unusual(_: Any) -> Any:
    raise UnusualValueError


def _unchanged(value: Any) -> Any:
    return value


def _scalar_reader(kind: type) -> Read:
    return lambda value: value if type(value) is kind else _unusual(value)


def _structure_reader(shape: Any, parents: frozenset[str]) -> Read:
    readers = {
        each.serialization.get("name", name): (name, _reader(each, parents))
        for name, each in shape.members.items()
    }
    union = shape.is_tagged_union

    def read(value: Any) -> Any:
        if type(value) is not dict or (union and len(value) != 1):
            raise UnusualValueError
        found = {}
        for key, each in value.items():
            known = readers.get(key)
            if known is not None and each is not None:
                name, read_member = known
                found[name] = read_member(each)
            elif union:
                raise UnusualValueError
        return found

    return read


def _list_reader(read: Read) -> Read:
    def read_list(value: Any) -> Any:
        if type(value) is not list:
            raise UnusualValueError
        return [None if each is None else read(each) for each in value]

    return read_list


def _map_reader(read_key: Read, read: Read) -> Read:
    def read_map(value: Any) -> Any:
        if type(value) is not dict:
            raise UnusualValueError
        return {read_key(key): read(each) for key, each in value.items()}

    return read_map
