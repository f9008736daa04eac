"""JSON objects with attributes, as the decoders read the objects of the SDKs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any


class Record(dict[str, Any]):
    """A JSON object whose fields are attributes too; a missing one is None.

    Objects inside it become records when they are read: a field that is not read costs nothing.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python and libraries look for is not a field
            raise AttributeError(name)
        value = self.get(name)
        if type(value) is dict:
            value = self[name] = type(self)(value)
        elif type(value) is list:
            kind = type(self)
            value = self[name] = [kind(each) if type(each) is dict else each for each in value]
        return value

    def to_dict(self, *, exclude_none: bool = False) -> dict[str, Any]:
        """The object as plain data; with `exclude_none`, without fields that are None."""
        return dict(_without_none(self)) if exclude_none else dict(self)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(each) for name, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, list) else value


@cache
def _decoder() -> Any:
    import msgspec

    return msgspec.json.Decoder()


def typed_parser(kind: Any) -> Callable[[bytes], Any]:
    """A function that reads JSON as a type of msgspec. It raises `ValueError`."""
    return _typed_parser(kind)


@cache
def _typed_parser(kind: Any) -> Callable[[bytes], Any]:
    import msgspec

    return msgspec.json.Decoder(kind).decode


def parse(data: bytes) -> Any:
    """JSON as plain data. Raises `ValueError` if it is not JSON.

    What msgspec refuses but Python accepts, such as NaN or half of a surrogate pair, is accepted,
    as by the SDKs.
    """
    try:
        return _decoder().decode(data)
    except ValueError:
        return json.loads(data)


def serialize(body: dict[str, Any]) -> bytes:
    """`body` as JSON. Raises `TypeError` if a value has no form in JSON."""
    import msgspec

    try:
        data = bytes(msgspec.json.encode(body))
    except (ValueError, OverflowError, RecursionError) as error:
        raise TypeError(f"not JSON serializable: {error}") from error
    if b"null" in data and _has_nan(body):  # msgspec writes it for NaN and the infinities
        raise TypeError("not JSON serializable: NaN or an infinity")
    return data


def _has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_nan, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_nan, value))
    return isinstance(value, float) and not math.isfinite(value)
