"""Partial instances of a type, built from JSON text while it streams.

Pydantic's own partial validation does not support partial models, and a copy of the model with
optional fields would be another type. So complete values are validated by the rules of the type,
and the objects that are still open are constructed around them without validation.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import abc
from collections.abc import Iterator
from types import UnionType
from typing import (
    Annotated,
    Any,
    Final,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from agentkit.output.json_text import MAX_OPENINGS, NOT_JSON
from agentkit.types import Response, Restart, StreamEvent, TextDelta

_MARK: Final = re.compile(r'\\.|["{}\[\],]', re.DOTALL)
_ALWAYS_BELOW: Final = 4096
"""Length of the answer up to which each complete value gives an instance."""
_GROWTH: Final = 64
"""A longer answer gives the next instance once it has grown by this fraction of its length."""
_UNFINISHED: Final = "+-.0123456789eE"
"""A number at the end of the text may continue."""
_ABSENT: Final = object()
_TUPLES: Final = frozenset({tuple, set, frozenset})
_LISTS: Final = frozenset(
    {list, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection, *_TUPLES}
)
_DICTS: Final = frozenset({dict, abc.Mapping, abc.MutableMapping})


class PartialInstances:
    """Builds instances of `kind` from a stream's events, with the values received so far.

    An object that is still open is an instance created without validation: fields whose value is
    complete and valid are set (`model_fields_set` names them), the others have their default, or
    None. Strings, numbers and closed objects appear once they are complete, and are validated.

    Building an instance takes time in proportion to the text. In a long text it is done each time
    the text has grown by 1/64, so that all instances together take time in proportion to it, too.
    """

    def __init__(self, kind: Any, *, wrapped: bool) -> None:
        self._kind = kind
        self._wrapped = wrapped
        self._begin()

    def _begin(self) -> None:
        self._text = _Text()
        self._builder = _Builder()
        self._shown: Any = _ABSENT
        self._next = 0
        """The length of the text at which the next instance is built."""

    def add(self, event: StreamEvent) -> tuple[Any, ...]:
        """The next partial instance as a tuple, empty if `event` completes no value."""
        if isinstance(event, Restart):
            self._begin()
        if not isinstance(event, TextDelta) or not self._text.add(event.text):
            return ()
        length = self._text.length
        if length < self._next:
            return ()
        if length > _ALWAYS_BELOW:
            self._next = length + length // _GROWTH
        document = self._text.document()
        if document is _ABSENT or not document or document == self._shown:
            return ()
        self._shown = document
        built = self._built(document, self._text.depth)
        return () if built is _ABSENT else (built,)

    def complete(self, response: Response[Any]) -> tuple[Any, ...]:
        """The validated instance as a tuple; empty if the response contains tool calls."""
        return () if response.tool_calls else (response.parsed,)

    def _built(self, document: Any, depth: int) -> Any:
        if self._wrapped and isinstance(document, dict):
            if not document:
                return _ABSENT
            if set(document) == {"value"}:
                document, depth = document["value"], depth - 1
        try:
            return self._builder.of(self._kind, document, depth)
        except Exception:  # noqa: BLE001 - a default or post-init may not accept None
            return _ABSENT


class _Text:
    """A growing text from the start to the end of the JSON value in it.

    `length` is its length so far, and `depth` counts open containers.
    """

    def __init__(self) -> None:
        self.depth = self.length = 0
        self._parts: list[str] = []
        self._held = ""
        self._quoted = self._begun = self._over = False
        self._openings = 0

    def add(self, piece: str) -> bool:
        """Append `piece`; True if a value or a name may be complete now."""
        if self._over:
            return False
        piece, self._held = self._held + piece, ""
        if not self._begun:
            opening = re.search(r"[{\[]", piece)
            if opening is None:
                return False
            self._begun, piece = True, piece[opening.start() :]
            self._openings += 1
            self._over = self._openings > MAX_OPENINGS
        if len(piece) - len(piece.rstrip("\\")) & 1:
            piece, self._held = piece[:-1], "\\"
        return self._scan(piece)

    def document(self) -> Any:
        """The JSON received so far, without incomplete values."""
        from pydantic_core import from_json

        text = "".join(self._parts)
        self._parts = [text]
        certain = text if self._quoted else text.rstrip().rstrip(_UNFINISHED)
        try:
            return from_json(certain, allow_partial=True)
        except NOT_JSON:  # it may start at a later bracket
            rest, self._held = text[1:] + self._held, ""
            self.depth, self.length, self._parts = 0, 0, []
            self._quoted = self._begun = self._over = False
            return self.document() if self.add(rest) else _ABSENT

    def _scan(self, piece: str) -> bool:
        complete = False
        self.length += len(piece)
        for mark in _MARK.finditer(piece):
            sign = mark[0]
            if sign == '"':
                self._quoted = not self._quoted
                complete = complete or not self._quoted
            elif not self._quoted and sign[0] != "\\":
                complete = True
                self.depth += (sign in "{[") - (sign in "}]")
                if self.depth <= 0:
                    self._over = True
                    self._parts.append(piece[: mark.end()])
                    return True
        self._parts.append(piece)
        return complete


class _Builder:
    """Builds instances from the values of one growing text.

    `depth` counts the containers at the end of a value that are still open. Complete items of a
    list are built once, so that the cost of a long list does not grow with each item; the
    instances share them.
    """

    def __init__(self) -> None:
        self._adapters: dict[Any, Any] = {}
        self._misfits = 0
        self._path: list[int | str] = []
        self._lists: dict[Any, _Items] = {}

    def of(self, kind: Any, value: Any, depth: int) -> Any:
        """The instance of `kind` that `value` represents, or `_ABSENT`."""
        if depth <= 0 or not isinstance(value, dict | list):
            return self._complete(kind, value)
        kind = _unwrapped(kind)
        origin = get_origin(kind) or kind
        if origin in (Union, UnionType):
            return self._member(get_args(kind), value, depth)
        if kind is Any:
            return value
        if isinstance(value, dict):
            built = self._object(kind, origin, value, depth)
        else:
            built = self._list(kind, origin, value, depth)
        if built is _ABSENT:
            self._misfits += 1
        return built

    def _complete(self, kind: Any, value: Any) -> Any:
        from pydantic import TypeAdapter

        try:
            adapter = self._adapters[kind]
        except (KeyError, TypeError) as missing:
            adapter = TypeAdapter(kind)
            if isinstance(missing, KeyError):
                self._adapters[kind] = adapter
        try:
            return adapter.validate_json(json.dumps(value))
        except Exception:  # noqa: BLE001 - a user's validator may raise anything; the final validation reports it
            self._misfits += 1
            return _ABSENT

    def _member(self, members: tuple[Any, ...], value: Any, depth: int) -> Any:
        """The member of a union that fits best; `_ABSENT` while two fit equally well."""
        before = self._misfits
        found = []
        for member in members:
            self._misfits = 0
            built = self.of(member, value, depth)
            if built is not _ABSENT:
                found.append((self._misfits, built))
        self._misfits = before
        fewest = min((misfits for misfits, _ in found), default=0)
        best = [built for misfits, built in found if misfits == fewest]
        return best[0] if len(best) == 1 else _ABSENT

    def _list(self, kind: Any, origin: Any, value: list[Any], depth: int) -> Any:
        if _is_root_model(origin):
            return self._root(kind, value, depth)
        if origin not in _LISTS:
            return _ABSENT
        arguments = get_args(kind)
        fixed = origin is tuple and arguments[1:2] != (...,)
        kinds = arguments if fixed else arguments[:1]
        complete = len(value) - (depth > 1)
        cached = self._lists.setdefault((tuple(self._path), id(kind)), _Items())
        if cached.seen > complete:  # the same name again in one object
            cached = self._lists[tuple(self._path), id(kind)] = _Items()
        before, self._misfits = self._misfits, 0
        for index in range(cached.seen, complete):
            kind = _at(kinds, index if fixed else 0)
            cached.add(self.of(kind, value[index], 0))
        cached.seen = complete
        cached.misfits += self._misfits
        self._misfits = before + cached.misfits
        items = list(cached.built)
        if depth > 1 and value:
            last = self._child(complete, _at(kinds, complete if fixed else 0), value[-1], depth - 1)
            items += [] if last is _ABSENT else [last]
        return origin(items) if origin in _TUPLES else items

    def _child(self, step: int | str, kind: Any, value: Any, depth: int) -> Any:
        self._path.append(step)
        try:
            return self.of(kind, value, depth)
        finally:
            self._path.pop()

    def _object(self, kind: Any, origin: Any, value: dict[str, Any], depth: int) -> Any:
        if _is_root_model(origin):
            return self._root(kind, value, depth)
        if origin in _DICTS:
            return self._dict(get_args(kind), value, depth)
        if hasattr(kind, "model_construct"):
            return self._model(kind, value, depth)
        hints = get_type_hints(kind, include_extras=True) if isinstance(kind, type) else {}
        hints = {name: _unqualified(hint) for name, hint in hints.items()}
        if dataclasses.is_dataclass(kind):
            return self._dataclass(kind, self._fields(hints, value, depth))
        return self._fields(hints, value, depth) if _is_typed_dict(kind) else _ABSENT

    def _dict(self, kinds: tuple[Any, ...], value: dict[str, Any], depth: int) -> Any:
        key_kind, item_kind = kinds or (Any, Any)
        entries = {}
        for name, (item, left) in zip(value, _with_depth([*value.values()], depth), strict=True):
            key, built = self._complete(key_kind, name), self._child(name, item_kind, item, left)
            if key is not _ABSENT and built is not _ABSENT:
                entries[key] = built
        return entries

    def _model(self, kind: Any, value: dict[str, Any], depth: int) -> Any:
        fields = kind.model_fields
        names = {alias: name for name, field in fields.items() for alias in _aliases(name, field)}
        renamed = {names.get(key, key): item for key, item in value.items()}
        kinds = {
            name: _annotated(field.annotation, field.metadata) for name, field in fields.items()
        }
        arrived = self._fields(kinds, renamed, depth)
        missing = {name: None for name, field in fields.items() if field.is_required()}
        return kind.model_construct(_fields_set=set(arrived), **(missing | arrived))

    def _root(self, kind: Any, value: Any, depth: int) -> Any:
        root = self.of(kind.model_fields["root"].annotation, value, depth)
        return root if root is _ABSENT else kind.model_construct(root=root)

    def _dataclass(self, kind: Any, arrived: dict[str, Any]) -> Any:
        made = object.__new__(kind)
        for field in dataclasses.fields(kind):
            value: Any = None
            if field.name in arrived:
                value = arrived[field.name]
            elif field.default is not dataclasses.MISSING:
                value = field.default
            elif field.default_factory is not dataclasses.MISSING:
                value = field.default_factory()
            object.__setattr__(made, field.name, value)
        return made

    def _fields(self, kinds: dict[str, Any], value: dict[str, Any], depth: int) -> dict[str, Any]:
        arrived = {}
        for name, (item, left) in zip(value, _with_depth([*value.values()], depth), strict=True):
            if name not in kinds:
                self._misfits += 1
            elif (built := self._child(name, kinds[name], item, left)) is not _ABSENT:
                arrived[name] = built
        return arrived


class _Items:
    """The complete items of a list: how many, the instances built, and how many did not fit."""

    def __init__(self) -> None:
        self.seen = self.misfits = 0
        self.built: list[Any] = []

    def add(self, item: Any) -> None:
        if item is not _ABSENT:
            self.built.append(item)


def _at(kinds: tuple[Any, ...], place: int) -> Any:
    return kinds[place] if place < len(kinds) else Any


def _with_depth(items: list[Any], depth: int) -> Iterator[tuple[Any, int]]:
    """Each item with its number of open containers: only the last one may be open."""
    last = len(items) - 1
    return ((item, depth - 1 if index == last else 0) for index, item in enumerate(items))


def _unwrapped(kind: Any) -> Any:
    """The type inside Annotated, a `type` statement or NewType."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif hasattr(kind, "__value__"):
            kind = kind.__value__
        elif hasattr(kind, "__supertype__"):
            kind = kind.__supertype__
        else:
            return kind


def _unqualified(hint: Any) -> Any:
    """The type in ``Required[…]`` or ``NotRequired[…]``."""
    return get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint


def _annotated(kind: Any, metadata: list[Any]) -> Any:
    return Annotated[(kind, *metadata)] if metadata else kind


def _aliases(name: str, field: Any) -> Iterator[str]:
    """The names that a field may have in JSON; a path into other objects is not one."""
    alias = field.validation_alias or field.alias or name
    yield name
    for each in getattr(alias, "choices", [alias]):
        if isinstance(each, str):
            yield each


def _is_root_model(kind: Any) -> bool:
    return bool(getattr(kind, "__pydantic_root_model__", False))


def _is_typed_dict(kind: Any) -> bool:
    from typing_extensions import is_typeddict

    return is_typeddict(kind)
