"""Requests and responses are written and read as botocore does, whatever they have in them."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from typing import Any

import botocore.session
import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from agentkit.providers.bedrock.shapes import RequestWriter, UnusualValueError, reader

SERVICE = botocore.session.Session().get_service_model("bedrock-runtime")
CONVERSE = SERVICE.operation_model("Converse")
STREAM = SERVICE.operation_model("ConverseStream")
SERIALIZER = create_serializer("rest-json", include_validation=False)
WRITER, READ = RequestWriter(CONVERSE), reader(CONVERSE.output_shape)

TEXTS = st.text(max_size=6)
ODD = st.sampled_from(
    [None, True, 0, -1, 1.5, math.nan, 2**70, "", "\ud800", b"\xff", [], {}, {"text": 1}, object()]
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2)
)
NUMBERS = {
    "integer": st.integers(1, 2**31),
    "long": st.integers(1, 2**62),
    "float": st.floats(0, 1),
    "double": st.floats(0, 1),
    "boolean": st.booleans(),
}


def values(draw: Any, shape: Any, *, blob: Any, odd: bool, depth: int = 0) -> Any:
    """A value of `shape`, most often with what is required; with `odd`, rarely another value."""
    if odd and depth and draw(st.integers(0, 20)) == 20:
        return draw(ODD)
    kind, more = shape.type_name, {"blob": blob, "odd": odd, "depth": depth + 1}
    if kind in NUMBERS:
        return draw(NUMBERS[kind])
    if kind == "string":
        return draw(st.text(min_size=shape.metadata.get("min", 0), max_size=70))
    if kind == "blob":
        return blob(draw(st.binary(max_size=5)))
    if kind == "list":
        count = draw(st.integers(shape.metadata.get("min", 0), 2))
        return [values(draw, shape.member, **more) for _ in range(count)]
    if kind == "map":
        entry = values(draw, shape.key, **more), values(draw, shape.value, **more)
        return dict([entry]) if type(entry[0]) is str else {1: entry}
    assert kind == "structure", kind
    if shape.is_document_type:
        return draw(DOCUMENTS)
    names = sorted(shape.members)
    chosen = {draw(st.sampled_from(names))} if names else set()
    if not shape.is_tagged_union:
        some = st.sets(st.sampled_from(names), max_size=1 if depth > 2 else 3) if names else None
        chosen = {*shape.metadata.get("required", ()), *(() if some is None else draw(some))}
    if odd and draw(st.integers(0, 20)) == 20:
        chosen.add("somethingNew")
    return {
        name: values(draw, shape.members[name], **more) if name in shape.members else 1
        for name in sorted(chosen)
    }


@st.composite
def arguments(draw: Any, *, odd: bool) -> dict[str, Any]:
    made: dict[str, Any] = values(draw, CONVERSE.input_shape, blob=bytes, odd=odd)
    return made


MODELS = st.text(st.sampled_from("abz09.:/%-_~ é?#+"), min_size=1)


@given(arguments(odd=False), MODELS)
def test_a_valid_request_is_the_one_of_botocore(given_: dict[str, Any], model: str) -> None:
    given_["modelId"] = model
    assert not ParamValidator().validate(given_, CONVERSE.input_shape).has_errors()
    written = WRITER.write(given_)
    if None in given_.values():  # botocore leaves it out
        assert written is None
        return
    assert written is not None
    path, body = written
    expected = SERIALIZER.serialize_to_request(given_, CONVERSE)
    assert path == expected["url_path"]
    assert json.loads(body) == json.loads(expected["body"])


@given(arguments(odd=True))
def test_what_botocore_refuses_or_writes_otherwise_is_left_to_botocore(
    given_: dict[str, Any],
) -> None:
    written = WRITER.write(given_)
    if written is None:
        return
    assert not ParamValidator().validate(given_, CONVERSE.input_shape).has_errors()
    path, body = written
    expected = SERIALIZER.serialize_to_request(given_, CONVERSE)
    assert (path, json.loads(body)) == (expected["url_path"], json.loads(expected["body"]))


ASKED: list[Any] = [{"role": "user", "content": [{"text": "?"}]}]


@pytest.mark.parametrize(
    "wrong",
    [
        {"modelId": ""},
        {"modelId": 1},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": [{"text": "?", "image": {}}]}]},
        {"messages": [{"role": "user", "content": [{}]}]},
        {"inferenceConfig": {"maxTokens": 0}},
        {"inferenceConfig": {"maxTokens": True}},
        {"inferenceConfig": {"temperature": math.nan}},
        {"inferenceConfig": {"temperature": "0"}},
        {"inferenceConfig": {"unheard": 1}},
        {"additionalModelRequestFields": {"a": math.inf}},
        {"additionalModelRequestFields": {"a": (1,)}},
        {"additionalModelRequestFields": {1: "a"}},
        {"additionalModelRequestFields": {"a": "\ud800"}},
        {"requestMetadata": {"a": 1}},
        {"unheard": 1},
    ],
    ids=str,
)
def test_what_is_wrong_or_odd_is_left_to_botocore(wrong: dict[str, Any]) -> None:
    valid: dict[str, Any] = {"modelId": "m", "messages": ASKED}
    assert WRITER.write(valid) is not None
    assert WRITER.write({**valid, **wrong}) is None


def base64(data: bytes) -> str:
    return b64encode(data).decode()


@st.composite
def answers(draw: Any, *, odd: bool) -> Any:
    return values(draw, CONVERSE.output_shape, blob=base64, odd=odd)


@given(st.booleans().flatmap(lambda odd: answers(odd=odd)))
def test_a_response_is_read_as_botocore_reads_it(answer: Any) -> None:
    try:
        body = json.dumps(answer).encode()
        again = json.loads(body)
    except (TypeError, ValueError):
        return
    try:
        found = READ(again)
    except ValueError:
        return
    given_ = {"status_code": 200, "headers": {}, "body": body, "context": {}}
    expected = create_parser("rest-json").parse(given_, CONVERSE.output_shape)
    assert found == {name: each for name, each in expected.items() if name != "ResponseMetadata"}


MESSAGE = {"role": "assistant", "content": [{"text": "x"}]}
USAGE = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"output": {"message": MESSAGE}, "new": 1}, {"output": {"message": MESSAGE}}),
        ({"usage": {**USAGE, "new": 1}, "trace": None}, {"usage": USAGE}),
        (
            {"output": {"message": {"content": [{"image": {"source": {"bytes": "iVBORw=="}}}]}}},
            {"output": {"message": {"content": [{"image": {"source": {"bytes": b"\x89PNG"}}}]}}},
        ),
    ],
    ids=["a new member", "null", "base64"],
)
def test_common_responses_are_read_without_botocore(answer: Any, expected: Any) -> None:
    assert READ(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        *([], "text"),
        {"usage": {"inputTokens": "1"}},
        {"usage": {"inputTokens": True}},
        {"output": {"message": {"content": [{"new": 1}]}}},
        {"output": {"message": {"content": [{"text": "a", "image": {}}]}}},
        {"output": {"message": {"content": [{}]}}},
        {"output": {"message": {"content": {"text": "a"}}}},
    ],
    ids=str,
)
def test_unusual_responses_are_left_to_botocore(answer: Any) -> None:
    with pytest.raises(UnusualValueError):
        READ(answer)


def test_every_event_has_a_reader_that_agrees_with_botocore() -> None:
    shape = STREAM.output_shape.members["stream"]
    for name, each in shape.members.items():
        if each.metadata.get("exception"):
            continue
        assert reader(each)({"somethingNew": 1}) == {}, name
