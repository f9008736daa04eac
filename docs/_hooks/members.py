"""Give each parameter, field and constant a row of its own in the API reference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from griffe import Attribute, Class, Extension, Function, Object

_SECTION = "Attributes:"
_NAME = re.compile(r"^ {4}(\w+)(?: \(.*?\))?:", re.MULTILINE)
_SHARED = re.compile(r"^ {4}(\w+(?:, \w+)+):(.*(?:\n {5,}.*)*)", re.MULTILINE)


class Members(Extension):
    """An extension of griffe, which reads the package for mkdocstrings."""

    def on_class(self, *, cls: Class, **_: Any) -> None:
        """Called for each class of the package: adds what its docstring leaves out."""
        _split_rows(cls)
        text = cls.docstring.value if cls.docstring else ""
        described = set(_NAME.findall(text))
        rows = [
            f"    {name}: {_value(member)}"
            for name, member in _fields(cls)
            if name not in described and not member.has_docstring
        ]
        if rows and cls.docstring:
            before, _, after = text.partition(f"\n{_SECTION}\n")
            own, blank, rest = after.partition("\n\n")
            lines = [before.rstrip(), "", _SECTION, *filter(None, [own]), *rows]
            cls.docstring.value = "\n".join(lines) + blank + rest

    def on_function(self, *, func: Function, **_: Any) -> None:
        """Called for each function and method of the package."""
        _split_rows(func)


def _split_rows(described: Object) -> None:
    """Parameters that share a row, as in ``a, b: text``, get one each."""
    if described.docstring:
        described.docstring.value = _SHARED.sub(
            lambda row: "\n".join(f"    {name}:{row[2]}" for name in row[1].split(", ")),
            described.docstring.value,
        )


def _fields(cls: Class) -> Iterator[tuple[str, Attribute]]:
    for name, member in cls.attributes.items():
        is_field = "property" not in member.labels and name != "model_config"  # pydantic's own
        if is_field and not name.startswith("_"):
            yield name, member


def _value(member: Attribute) -> str:
    """What a constant is; a field's default is in the signature."""
    constant = "class-attribute" in member.labels and "instance-attribute" not in member.labels
    return f"`{member.value}`" if constant else ""
