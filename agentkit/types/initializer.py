"""A faster `__init__` and `replace` for the frozen dataclasses that every request creates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields, replace
from types import new_class
from typing import Any, TypeVar

T = TypeVar("T")


def fast_init(cls: type[T]) -> type[T]:
    """Decorate a frozen dataclass with slots, so that its instances are created three times faster.

    The `__init__` that `dataclass` writes for a frozen class calls `object.__setattr__` for each
    field. This one turns the new instance into an ordinary object of the same layout until all
    fields are set. An instance of a subclass is set field by field, as before.
    """
    names: dict[str, Any] = {
        "cls": cls,
        "thawed": _thawed(cls),
        "set_attribute": object.__setattr__,
    }
    every = fields(cls)  # type: ignore[arg-type]
    parameters = ", ".join(_parameter(each, names) for each in every)
    lines = [f"def __init__(self, {parameters}):"]
    lines += [
        f" if {each.name} is factory_{each.name}: {each.name} = factory_{each.name}()"
        for each in every
        if each.default_factory is not MISSING
    ]
    lines.append(" if self.__class__ is cls:")
    lines.append("  set_attribute(self, '__class__', thawed)")
    lines += [f"  self.{each.name} = {each.name}" for each in every]
    lines.append("  self.__class__ = cls")
    lines.append(" else:")
    lines += [f"  set_attribute(self, '{each.name}', {each.name})" for each in every]
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    exec("\n".join(lines), names)  # noqa: S102 - the names of fields, as `dataclass` does it
    init = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = cls.__init__.__annotations__
    cls.__init__ = init  # type: ignore[method-assign]
    return cls


def fast_replace(cls: type[T], *changed: str) -> Callable[..., T]:
    """A function that copies a `cls`, with new values of the fields `changed`, in this order.

    It does what `dataclasses.replace` does for a frozen dataclass with slots that has no
    `__post_init__`, five times faster.
    """
    names: dict[str, Any] = {
        "cls": cls,
        "create": object.__new__,
        "replace": replace,
        "thawed": _thawed(cls),
    }
    values = {each.name: f"value.{each.name}" for each in fields(cls)}  # type: ignore[arg-type]
    values |= {name: name for name in changed}
    lines = [f"def replace_fields(value, {', '.join(changed)}):"]
    lines.append(" if value.__class__ is not cls:")
    lines.append(f"  return replace(value, {', '.join(f'{name}={name}' for name in changed)})")
    lines.append(" copy = create(thawed)")
    lines += [f" copy.{name} = {value}" for name, value in values.items()]
    lines.append(" copy.__class__ = cls")
    lines.append(" return copy")
    exec("\n".join(lines), names)  # noqa: S102 - as above
    made: Callable[..., T] = names["replace_fields"]
    return made


def fast_maker(template: T, *given: str) -> Callable[..., T]:
    """A function that copies `template`, with new values of the fields `given`, in this order.

    It is like `fast_replace`, and faster, because the values of the other fields are known.
    """
    cls = type(template)
    names: dict[str, Any] = {"cls": cls, "create": object.__new__, "thawed": _thawed(cls)}
    every = [each.name for each in fields(cls)]  # type: ignore[arg-type]
    known = [name for name in every if name not in given]
    names |= {f"known_{name}": getattr(template, name) for name in known}
    parameters = ", ".join([*given, *(f"{name}=known_{name}" for name in known)])
    lines = [f"def make({parameters}):", " copy = create(thawed)"]
    lines += [f" copy.{name} = {name}" for name in every]
    lines.append(" copy.__class__ = cls")
    lines.append(" return copy")
    exec("\n".join(lines), names)  # noqa: S102 - as above
    made: Callable[..., T] = names["make"]
    return made


def _thawed(cls: type[Any]) -> type[Any]:
    """A class of the same layout whose instances can be changed."""
    bases = getattr(cls, "__orig_bases__", cls.__bases__)
    return new_class(cls.__name__, bases, {}, lambda body: body.update(__slots__=cls.__slots__))


def _parameter(field: Field[Any], names: dict[str, Any]) -> str:
    """The parameter of `field`, whose default goes into `names`."""
    if field.default_factory is not MISSING:
        names[f"factory_{field.name}"] = field.default_factory
        return f"{field.name}=factory_{field.name}"
    if field.default is MISSING:
        return field.name
    names[f"default_{field.name}"] = field.default
    return f"{field.name}=default_{field.name}"
