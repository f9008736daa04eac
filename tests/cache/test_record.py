"""Stored bytes give back the answer or are refused; they never give back another one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.cache.faults import CacheFault
from agentkit.cache.record import copy_as_cached, decode, encode
from agentkit.types import ProviderState, Response, ToolCall, Usage
from tests.cache.stores import ANSWER

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
tokens = st.integers(0, 10**9)
optional_text = st.none() | st.text()
calls = st.builds(
    ToolCall, st.text(), st.text(), st.dictionaries(st.text(), json_values, max_size=3)
)
states = st.builds(
    ProviderState,
    st.text(),
    st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=3).map(tuple),
)
responses: st.SearchStrategy[Response[Any]] = st.builds(
    Response,
    text=st.text() | st.just("\ud800 half a pair"),
    usage=st.builds(Usage, tokens, tokens, tokens, tokens, tokens),
    model=st.text(),
    provider=st.text(),
    finish_reason=optional_text,
    tool_calls=st.lists(calls, max_size=2).map(tuple),
    cached=st.just(True),
    response_id=optional_text,
    state=st.none() | states,
)


@given(responses, st.text(), st.floats(0, 1e12))
def test_an_answer_is_restored_completely(response: Response[Any], key: str, stored: float) -> None:
    assert decode(key, encode(key, response, stored)) == (response, stored)
    assert copy_as_cached(response) == response


@given(responses, st.data())
def test_no_damaged_byte_goes_unnoticed(response: Response[Any], data: st.DataObject) -> None:
    record = encode("k", response, 1.0)
    position = data.draw(st.integers(0, len(record) - 1))
    damaged = bytearray(record)
    damaged[position] ^= data.draw(st.integers(1, 255))
    for broken in (bytes(damaged), record[:position], record + b"x"):
        with pytest.raises(CacheFault):
            decode("k", broken)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "foreign"), (b"something else", "foreign"), ("text", "foreign"), (7, "foreign"),
        (b"\x80\x04.", "foreign"), (b"AKRC\x02" + b"0" * 40, "newer"),
        (b"AKRC\x01", "corrupt"), (b"AKRC\x01" + b"0" * 40, "corrupt"),
    ],
)  # fmt: skip
def test_a_foreign_or_incomplete_record_is_rejected_with_a_reason(data: Any, reason: str) -> None:
    with pytest.raises(CacheFault) as caught:
        decode("k", data)
    assert caught.value.reason == reason


def test_an_answer_under_another_key_is_refused() -> None:
    with pytest.raises(CacheFault):
        decode("other question", encode("question", ANSWER, 1.0))


def test_a_copy_shares_nothing_that_can_be_changed() -> None:
    copy = copy_as_cached(ANSWER)
    arguments: Any = copy.tool_calls[0].arguments
    arguments["days"].append(3)
    assert ANSWER.tool_calls[0].arguments == {"city": "Paris", "days": [1, 2]}
    assert copy.ledger is not ANSWER.ledger
    assert copy.cached


def test_a_parsed_instance_is_not_kept() -> None:
    assert copy_as_cached(Response("1", parsed=1)).parsed is None
