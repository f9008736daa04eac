"""What OpenAI's strict mode takes, and what it would answer with a 400."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from enum import Enum
from typing import Annotated, Any

import pytest
from pydantic import AnyUrl, BaseModel, Field

from agentkit.providers.json_schema import strict_schema


class Paint(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    name: str = Field(description="what it is called")
    paint: Paint = Field(Paint.RED, description="how it looks")
    born: date | None = None


class Tree(BaseModel):
    """A recursive type, whose schema is one reference at the top."""

    value: int
    children: list[Tree] = []


class Nested(BaseModel):
    leaf: Leaf
    others: Annotated[list[Leaf], Field(min_length=1, max_length=3)]
    score: Annotated[float, Field(ge=0, le=1)] = 0.5


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for each in schema.values():
            yield from nodes(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from nodes(each)


@pytest.mark.parametrize("kind", [Leaf, Tree, Nested])
def test_every_object_is_closed_and_requires_all_its_properties(kind: type[BaseModel]) -> None:
    strict = strict_schema(kind.model_json_schema())
    assert strict is not None
    objects = [each for each in nodes(strict) if each.get("type") == "object"]
    assert objects
    for each in objects:
        assert each["additionalProperties"] is False
        assert each["required"] == list(each["properties"])


@pytest.mark.parametrize("kind", [Leaf, Tree, Nested])
def test_the_top_is_an_object_and_references_have_no_siblings(kind: type[BaseModel]) -> None:
    strict = strict_schema(kind.model_json_schema())
    assert strict is not None
    assert (strict["type"], "$ref" in strict) == ("object", False)
    references = [each for each in nodes(strict) if "$ref" in each]
    assert all(each.keys() == {"$ref"} for each in references)
    for each in references:
        _, group, name = each["$ref"].split("/")
        assert name in strict[group]


def test_the_given_schema_is_not_changed() -> None:
    schema = Nested.model_json_schema()
    strict_schema(schema)
    assert schema == Nested.model_json_schema()


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    class Odd(BaseModel):
        title: str
        default: int = 3

    strict = strict_schema(Odd.model_json_schema())
    assert strict is not None
    assert strict["properties"] == {"title": {"type": "string"}, "default": {"type": "integer"}}


class Free(BaseModel):
    anything: dict[str, int]


class Guarded(BaseModel):
    amount: str = Field(json_schema_extra={"pattern": r"^(?!0)\d+$"})


class Page(BaseModel):
    link: AnyUrl


class Pair(BaseModel):
    both: tuple[int, str]


class Whatever(BaseModel):
    value: Any


class Short(BaseModel):
    word: Annotated[str, Field(max_length=3)]


@pytest.mark.parametrize("kind", [Free, Guarded, Page, Pair, Whatever, Short])
def test_a_schema_that_strict_mode_rejects_is_not_strict(kind: type[BaseModel]) -> None:
    assert strict_schema(kind.model_json_schema()) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"anyOf": [{"type": "object", "properties": {}}]},
        {"$ref": "#/$defs/Missing", "$defs": {}},
        {"$ref": "https://example.com/schema.json"},
        {},
    ],
)
def test_a_schema_whose_top_is_not_an_object_is_not_strict(schema: dict[str, Any]) -> None:
    assert strict_schema(schema) is None
