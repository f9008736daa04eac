"""Types made at random, each with values of it: what a `response_model` may be."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Annotated, Any, Literal, NamedTuple

from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, create_model


class Shade(enum.Enum):
    RED = "red"
    DEEP_BLUE = "deep blue"


class Node(BaseModel):
    name: str
    kids: list[Node] = []


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float = Field(gt=0)


class Square(BaseModel):
    kind: Literal["square"] = "square"
    side: int = Field(ge=1, le=10)


class Typed(NamedTuple):
    """A type and a strategy for its values."""

    kind: Any
    values: st.SearchStrategy[Any]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NODES = st.recursive(
    st.builds(Node, name=TEXT),
    lambda kids: st.builds(Node, name=TEXT, kids=st.lists(kids, max_size=2)),
    max_leaves=4,
)
CIRCLES = st.builds(Circle, kind=st.just("circle"), radius=st.floats(0.5, 1e9, allow_nan=False))
SQUARES = st.builds(Square, kind=st.just("square"), side=st.integers(1, 10))
NAMES = ["name", "items", "Größe", "class_", "value", "x1"]


@st.composite
def leaves(draw: st.DrawFn) -> Typed:
    low = draw(st.integers(-99, 99))
    high = low + draw(st.integers(0, 99))
    least = draw(st.integers(0, 3))
    made: Typed = draw(
        st.sampled_from(
            [
                Typed(int, st.integers(-(2**53), 2**53)),
                Typed(Annotated[int, Field(ge=low, le=high)], st.integers(low, high)),
                Typed(str, TEXT),
                Typed(
                    Annotated[str, Field(min_length=least, max_length=least + 4)],
                    st.text('aé"\\\n{}[]`', min_size=least, max_size=least + 4),
                ),
                Typed(
                    Annotated[str, Field(pattern=r"^[a-z]{2}-\d$")],
                    st.from_regex(r"[a-z]{2}-[0-9]", fullmatch=True),
                ),
                Typed(bool, st.booleans()),
                Typed(float, st.floats(allow_nan=False, allow_infinity=False)),
                Typed(dt.date, st.dates()),
                Typed(Shade, st.sampled_from(Shade)),
                Typed(Literal["yes", "no"], st.sampled_from(["yes", "no"])),
                Typed(int | str, st.integers(-9, 9) | st.text("abc", min_size=1, max_size=3)),
            ]
        )
    )
    return made


@st.composite
def composites(draw: st.DrawFn, inner: st.SearchStrategy[Typed]) -> Typed:
    form = draw(st.sampled_from(["list", "dict", "optional", "model", "union", "recursive"]))
    if form == "model":
        return draw(models(inner))
    if form == "union":
        kind = Annotated[Circle | Square, Field(discriminator="kind")]
        return Typed(draw(st.sampled_from([Circle | Square, kind])), CIRCLES | SQUARES)
    if form == "recursive":
        return Typed(Node, NODES)
    one = draw(inner)
    if form == "optional":
        return Typed(one.kind | None, st.none() | one.values)
    if form == "dict":
        keys = st.sampled_from(["a", "a b", "value", "", "ü"])
        entries = st.dictionaries(keys, one.values, max_size=3)
        return Typed(dict.__class_getitem__((str, one.kind)), entries)
    most = draw(st.integers(1, 3))
    bounded: Any = Annotated[(list.__class_getitem__(one.kind), Field(max_length=most))]
    return Typed(bounded, st.lists(one.values, max_size=most))


@st.composite
def models(draw: st.DrawFn, inner: st.SearchStrategy[Typed]) -> Typed:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    fields: dict[str, Any] = {}
    values: dict[str, st.SearchStrategy[Any]] = {}
    for name in names:
        one = draw(inner)
        default = draw(st.booleans())
        alias = f"the-{name}" if draw(st.booleans()) else None
        fields[name] = (
            one.kind,
            Field(draw(one.values), alias=alias) if default else Field(alias=alias),
        )
        values[alias or name] = one.values
    model = create_model("Made", **fields)
    return Typed(model, st.fixed_dictionaries(values).map(lambda fields: model(**fields)))


TYPES = st.recursive(leaves(), composites, max_leaves=6)


@st.composite
def instances(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """A type, a value of it, and the value's JSON as Python data."""
    made = draw(TYPES)
    value = draw(made.values)
    return made.kind, value, TypeAdapter(made.kind).dump_python(value, mode="json", by_alias=True)
