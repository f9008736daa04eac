"""Conversion of a response to JSON and back, with bytes and errors."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from agentkit import errors
from agentkit.errors import LLMError
from agentkit.types.ledger import Ledger

_MARKS: Final = ({"$bytes"}, {"$dict"})


def pack(value: Any) -> Any:
    """`value` as a JSON value: a dataclass by its fields, an error by its class and message.

    Bytes become ``{"$bytes": base64}``, dates ISO strings.
    """
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        packed = {str(key): pack(one) for key, one in value.items()}
        return {"$dict": packed} if set(packed) in _MARKS else packed
    if isinstance(value, Ledger):
        return value.to_dict()
    if isinstance(value, list | tuple):
        return [pack(one) for one in value]
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    if isinstance(value, BaseException):
        message = getattr(value, "message", None) or str(value)
        return {"type": type(value).__name__, "message": message}
    if is_dataclass(value):
        return {one.name: pack(getattr(value, one.name)) for one in fields(value)}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def unpack_error(packed: Mapping[str, str] | None) -> Exception | None:
    """An error of our tree with the message; an unknown one becomes an `LLMError`."""
    if packed is None:
        return None
    cls: Any = getattr(errors, packed["type"], None)
    simple = isinstance(cls, type) and issubclass(cls, LLMError)
    if not simple or issubclass(cls, ExceptionGroup):
        cls = LLMError
    return cls(packed["message"])  # type: ignore[no-any-return]
