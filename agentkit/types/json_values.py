"""Values with bytes as JSON values, and back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

FORMAT_VERSION: Final = 1
"""Version of the dicts of `Message.to_dict` and `Response.to_dict`."""

_BYTES: Final = "$bytes"
_DICT: Final = "$dict"
UNREADABLE: Final = (AttributeError, KeyError, TypeError, ValueError)
"""What reading a dict of another form raises."""

_MARKS: Final = ({_BYTES}, {_DICT})


def pack(value: Any) -> Any:
    """`value` as a JSON value: bytes become ``{"$bytes": base64}``, tuples lists.

    Raises:
        TypeError: a part has no JSON form, such as an object, or a key that is not a str.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return {_BYTES: base64.b64encode(value).decode("ascii")}
    if isinstance(value, list | tuple):
        return [pack(each) for each in value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a dict with keys that are not strings has no JSON form")
        packed = {key: pack(each) for key, each in value.items()}
        return {_DICT: packed} if set(packed) in _MARKS else packed
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


def unpack(value: Any) -> Any:
    """The inverse of `pack`, except that tuples stay lists."""
    if isinstance(value, Mapping):
        if set(value) == {_BYTES}:
            return base64.b64decode(value[_BYTES])
        inner = value[_DICT] if set(value) == {_DICT} else value
        return {key: unpack(each) for key, each in inner.items()}
    return [unpack(each) for each in value] if isinstance(value, list) else value


def known_fields(cls: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """What `data` has of the fields of the dataclass `cls`."""
    return {each.name: data[each.name] for each in fields(cls) if each.name in data}


def check_version(what: str, data: Any) -> None:
    """Check that this release can read the dict of a `what`.

    Raises:
        ValueError: it is not a dict, or was written in a newer format.
    """
    if not isinstance(data, Mapping):
        raise malformed(what)
    version = data.get("version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ValueError(
            f"the {what} has format {version!r}, which needs a newer version of agentkit"
        )


def malformed(what: str) -> ValueError:
    """The error of a dict that is not what `to_dict` returns."""
    return ValueError(f"the value does not have the form of a {what}")
