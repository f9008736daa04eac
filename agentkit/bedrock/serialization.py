"""Conversion of a response to JSON and back, with bytes and errors."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from agentkit import errors
from agentkit.errors import LLMError
from agentkit.types.ledger import Entry, Ledger

_MARKS: Final = ({"$bytes"}, {"$dict"})
_LEDGER: Final = ("cache", "waited", "slept", "duration", "answered_by")


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
        return _pack_ledger(value)
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


def unpack(value: Any) -> Any:
    """The inverse of `pack`, except that dates and foreign types stay strings."""
    if isinstance(value, Mapping):
        if set(value) == {"$bytes"}:
            return base64.b64decode(value["$bytes"])
        inner = value["$dict"] if set(value) == {"$dict"} else value
        return {key: unpack(one) for key, one in inner.items()}
    return [unpack(one) for one in value] if isinstance(value, list) else value


def unpack_error(packed: Mapping[str, str] | None) -> Exception | None:
    """An error of our tree with the message; an unknown one becomes an `LLMError`."""
    if packed is None:
        return None
    cls: Any = getattr(errors, packed["type"], None)
    simple = isinstance(cls, type) and issubclass(cls, LLMError)
    if not simple or issubclass(cls, ExceptionGroup):
        cls = LLMError
    return cls(packed["message"])  # type: ignore[no-any-return]


def _pack_ledger(ledger: Ledger) -> dict[str, Any]:
    """The entries and totals of a ledger."""
    sums = {name: getattr(ledger, name) for name in _LEDGER}
    # The details are those of the attempts, which a response keeps beside its ledger.
    entries = [entry._replace(details=None)._asdict() for entry in ledger]
    return {"entries": entries, **sums}


def unpack_ledger(packed: Mapping[str, Any]) -> Ledger:
    """A ledger from its packed form."""
    ledger = Ledger(
        [Entry(**{**entry, "omitted": tuple(entry["omitted"])}) for entry in packed["entries"]]
    )
    for name in _LEDGER:
        setattr(ledger, name, packed[name])
    return ledger
