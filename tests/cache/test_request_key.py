"""Two requests share a key exactly when nothing that affects the answer differs."""

from __future__ import annotations

import enum
import math
import random
from collections import OrderedDict
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agentkit.cache.fingerprint import request_key
from agentkit.types import Message, MessageRole, Request, ToolCall, ToolSpec


def key(request: Request, model: str = "m", fingerprint: str = "f", namespace: str = "") -> Any:
    return request_key(request, model=model, fingerprint=fingerprint, namespace=namespace)


def key_of(**params: Any) -> Any:
    return key(Request(prompt="hi", params=params))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def typed(value: Any) -> Any:
    """A value with its types, so that 0, 0.0 and False differ."""
    if isinstance(value, dict):
        return "dict", frozenset((name, typed(item)) for name, item in value.items())
    if isinstance(value, list):
        return "list", tuple(map(typed, value))
    return type(value), repr(value)


@given(st.dictionaries(st.text(), values, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_parameters_does_not_matter(
    params: dict[str, Any], dice: random.Random
) -> None:
    shuffled = list(params.items())
    dice.shuffle(shuffled)
    expected = key(Request(prompt="hi", params=params))
    assert expected is not None
    assert len(expected) == 64
    assert key(Request(prompt="hi", params=dict(shuffled))) == expected
    assert key(Request(prompt="hi", params=MappingProxyType(params))) == expected


@given(values, values)
def test_different_values_have_different_keys(one: Any, other: Any) -> None:
    assert (key_of(x=one) == key_of(x=other)) == (typed(one) == typed(other))


@given(st.lists(st.sampled_from([0, 0.0, -0.0, False, "0", None, "", [], {}, [0], "null"])))
def test_look_alikes_do_not_collide(lookalikes: list[Any]) -> None:
    keys = {key_of(x=value) for value in lookalikes}
    assert len(keys) == len({typed(value) for value in lookalikes})


MESSAGE = Message(MessageRole.USER, "hi")
BASE = Request(messages=(MESSAGE,), params={"temperature": 0.5})


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, params={}),
        replace(BASE, params={"temperature": 0.6}),
        replace(BASE, params={"temperature": 0.5, "n": 1}),
        replace(BASE, tools=(ToolSpec("t"),)),
        replace(BASE, response_format={"type": "json"}),
        replace(BASE, messages=()),
        replace(BASE, messages=(), prompt="hi"),
        replace(BASE, messages=(MESSAGE, MESSAGE)),
        replace(BASE, messages=(replace(MESSAGE, role="system"),)),
        replace(BASE, messages=(replace(MESSAGE, content="ho"),)),
        replace(BASE, messages=(replace(MESSAGE, content=[{"type": "text", "text": "hi"}]),)),
        replace(BASE, messages=(replace(MESSAGE, tool_call_id="1"),)),
        replace(BASE, messages=(replace(MESSAGE, tool_calls=(ToolCall("1", "t"),)),)),
        replace(BASE, messages=(replace(MESSAGE, tool_calls=(ToolCall("1", "t", {"a": 1}),)),)),
    ],
)
def test_whatever_affects_the_answer_changes_the_key(other: Request) -> None:
    assert None not in (key(BASE), key(other))
    assert key(BASE) != key(other)


@pytest.mark.promise("A11")
def test_model_fingerprint_and_namespace_are_separate_parts_of_the_key() -> None:
    made = {
        key(BASE),
        key(BASE, model="x"),
        key(BASE, fingerprint="x"),
        key(BASE, namespace="x"),
        key(BASE, model="f", fingerprint="m"),
    }
    assert len(made) == 5


def test_stream_use_of_the_cache_and_message_metadata_are_not_in_the_key() -> None:
    noted = replace(BASE, messages=(replace(MESSAGE, metadata={"trace": object()}),))
    assert key(replace(BASE, stream=True)) == key(replace(BASE, use_cache=False)) == key(BASE)
    assert key(noted) == key(BASE)


class Shape(BaseModel):
    x: int = 0


class Effort(enum.StrEnum):
    HIGH = "high"


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value",
    [
        object(), b"bytes", {1, 2}, frozenset(), {1: "a"}, {True: 1}, {"a": {2: 3}}, [object()],
        (object(),), lambda: None, Shape, Shape(), math.nan, math.inf, -math.inf, 1j, Effort.HIGH,
        OrderedDict(a=1), LOOP, 10**5000, [[math.nan]],
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_has_no_canonical_json_has_no_key(value: Any) -> None:
    assert key_of(x=value) is None
    assert key(Request(prompt="hi", tools=(ToolSpec("t", parameters={"x": value}),))) is None
    assert key(Request(prompt="hi", response_format={"x": value})) is None
    call = ToolCall("1", "t", {"x": value})
    assert key(Request(messages=(Message("assistant", "", tool_calls=(call,)),))) is None
    parts: Any = [{"x": value}]
    assert key(Request(messages=(Message("user", parts),))) is None


def test_a_parameter_name_must_be_text_to_have_a_key() -> None:
    params: Any = {1: 2}
    assert key(Request(prompt="hi", params=params)) is None


def test_a_prompt_must_be_text_to_have_a_key() -> None:
    prompt: Any = {1: 2}
    assert key(Request(prompt=prompt)) is None


def test_half_of_a_surrogate_pair_is_valid_text() -> None:
    keys = {key(Request(prompt=text)) for text in ("\ud83d", "\ude00", "\ud83d\ude00", "😀")}
    assert len(keys) == 4
    assert None not in keys


def test_a_key_does_not_reveal_the_prompt() -> None:
    assert set(key(Request(prompt="secret"))) <= set("0123456789abcdef")


def test_the_key_is_the_same_in_every_process() -> None:
    request = Request(prompt="What is the capital of France?", params={"b": 1, "a": [0.5, None]})
    pinned = "339ebf7475dec95d6d77b0a2641ee8e545fa6d4baf56677e9a926106230d2f87"
    assert request_key(request, model="gpt", fingerprint="f", namespace="n") == pinned
