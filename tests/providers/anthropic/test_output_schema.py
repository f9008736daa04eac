"""The schemas of structured outputs are those that Anthropic's SDK makes."""

from __future__ import annotations

import json
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from anthropic import transform_schema
from pydantic import BaseModel, Field, RootModel

from agentkit.providers.anthropic.output_schema import fitted_schema


class Color(Enum):
    RED = "red"


class Leaf(BaseModel):
    """A leaf."""

    day: date
    size: Annotated[int, Field(ge=1, le=9)] = 3
    kind: Literal["a", "b"] | None = Field(None, description="The kind.")
    pattern: str = Field("x", pattern="x+")


class Tree(BaseModel):
    leaves: list[Leaf] = Field(min_length=1)
    many: list[int] = Field(min_length=2, max_length=3)
    pair: tuple[int, str]
    color: Color
    child: Tree | None = None


SCHEMAS: list[Any] = [
    Tree.model_json_schema(),
    RootModel[list[Leaf]].model_json_schema(),
    RootModel[Leaf | int].model_json_schema(),
    {"type": "string", "format": "password", "description": "A word."},
    {"oneOf": [{"type": "integer", "multipleOf": 2}, {"const": 1}]},
    {"allOf": [{"type": "object"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "null"}}},
    {"enum": [1, "a", None, True], "type": "string"},
    {"type": "array", "minItems": 0},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_schema_is_that_of_the_sdk(schema: dict[str, Any]) -> None:
    before = json.dumps(schema)
    assert fitted_schema(schema) == transform_schema(json.loads(before))
    assert json.dumps(schema) == before


@pytest.mark.parametrize("schema", [{}, {"type": ["string", "null"]}, {"properties": {}}])
def test_a_schema_without_one_type_has_no_such_form(schema: dict[str, Any]) -> None:
    assert fitted_schema(schema) is None
