"""What a `StructuredOutputError` says of an answer: each path, as it stands in the answer."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, field_validator

from agentkit import Request, Response, StructuredOutputError
from agentkit.output.validation import check_for
from agentkit.output.violations import MAX_VIOLATIONS
from tests.helpers import Town
from tests.output.shapes import Circle, Square


class Trip(BaseModel):
    days: int = Field(ge=1, le=10)
    stops: list[Town]


def rejected(response_model: Any, answer: str) -> StructuredOutputError:
    check, _ = check_for(response_model, Request(prompt="x"))
    with pytest.raises(StructuredOutputError) as caught:
        check.accept(Response(answer))
    return caught.value


@pytest.mark.promise("S2-27")
def test_each_path_is_named_as_it_stands_in_the_answer() -> None:
    document = {"days": 11, "stops": [{"name": 1, "population": 2}, {"population": 0}]}
    assert [each.split(":")[0] for each in rejected(Trip, json.dumps(document)).violations] == [
        "$.days",
        "$.stops[0].name",
        "$.stops[1].name",
        "$.stops[1].population",
    ]


def test_the_member_of_a_union_that_was_tried_is_not_in_the_path() -> None:
    found = rejected(list[Circle | Square], '[{"kind": "circle"}]').violations
    assert "$[0].radius: Field required (as Circle)" in found


def test_a_long_list_is_counted() -> None:
    found = rejected(list[int], json.dumps(["x"] * 100_000)).violations
    assert len(found) == MAX_VIOLATIONS + 1
    assert found[-1] == f"and {100_000 - MAX_VIOLATIONS} more"


def test_a_long_name_is_truncated() -> None:
    found = rejected(dict[str, int], json.dumps({"k" * 1_000_000: "x"})).violations
    assert len(found[0]) == 300


def test_a_validator_that_breaks_is_a_violation_and_the_cause() -> None:
    class Odd(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def known(cls, name: str) -> str:
            return {"Rome": name}[name]

    error = rejected(Odd, '{"name": "Paris"}')
    assert error.violations == ["$: a validator raised KeyError"]
    assert isinstance(error.__cause__, KeyError)


def test_a_tag_that_no_member_of_a_union_has_is_named() -> None:
    tagged: Any = Annotated[Circle | Square, Field(discriminator="kind")]
    assert rejected(list[tagged], '[{"kind": "line"}]').violations[0].startswith("$[0].kind: ")
    assert rejected(list[tagged], '[{"side": 1}]').violations[0].startswith("$[0].kind: ")
