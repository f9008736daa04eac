"""Copies of frozen values are what `dataclasses.replace` makes."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from agentkit.types import Request, Response, Usage
from agentkit.types.initializer import fast_replace

RESPONSE: Response[Any] = Response("fine", Usage(1, 2), "m", "p", parsed={"a": 1}, raw=object())
REQUEST = Request("hi", params={"temperature": 0.5}, use_cache=False, priority=3)


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        (RESPONSE, {"text": "other", "cached": True}),
        (RESPONSE, {field.name: None for field in dataclasses.fields(Response)}),
        (REQUEST, {"timeout": 1.5}),
    ],
)
def test_a_copy_has_the_new_values_and_all_others(value: Any, changes: dict[str, Any]) -> None:
    copy = fast_replace(type(value), *changes)(value, *changes.values())
    expected = dataclasses.replace(value, **changes)
    assert type(copy) is type(value)
    for field in dataclasses.fields(value):
        assert getattr(copy, field.name) is getattr(expected, field.name)


def test_a_copy_is_frozen_and_can_be_pickled() -> None:
    copy = fast_replace(Request, "timeout")(REQUEST, 2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        copy.timeout = 3.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(copy)) == dataclasses.replace(REQUEST, timeout=2.0)


def test_a_subclass_stays_one() -> None:
    @dataclasses.dataclass(frozen=True)
    class Marked(Request):
        mark: str = "m"

    copy = fast_replace(Request, "timeout")(Marked("hi", mark="x"), 2.0)
    assert copy == Marked("hi", timeout=2.0, mark="x")
