"""Message parts of every vendor become one shape; invalid ones are rejected, never guessed."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import InvalidRequestError, InvalidResponseError, Message
from agentkit.providers.content import (
    base64_of,
    data_url,
    parts_of,
    shortened_id,
    split_system,
)
from agentkit.providers.response_fields import json_arguments, token_count

PNG = b"\x89PNG-some-image"
CODED = base64.b64encode(PNG).decode()
IMAGE = {"type": "image", "data": PNG, "media_type": "image/png"}
AT_URL = {"type": "image", "url": "https://example.com/a.png", "media_type": "image/png"}
PDF = {"type": "document", "data": PNG, "media_type": "application/pdf", "name": "report.pdf"}


def only(part: Mapping[str, Any]) -> dict[str, Any]:
    (found,) = parts_of(Message("user", [part]))
    return found


DIALECTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "text", "text": "hi"}, {"type": "text", "text": "hi"}),
    ({"text": "hi"}, {"type": "text", "text": "hi"}),
    ({"type": "input_text", "text": "hi"}, {"type": "text", "text": "hi"}),
    ({"type": "text", "text": "hi", "cache_control": {}}, {"type": "text", "text": "hi"}),
    (IMAGE, IMAGE),
    ({**IMAGE, "data": bytearray(PNG)}, IMAGE),
    ({"type": "image", "data": CODED}, IMAGE),
    ({"type": "image", "url": AT_URL["url"]}, AT_URL),
    ({"type": "image_url", "image_url": {"url": AT_URL["url"]}}, AT_URL),
    ({"type": "image_url", "image_url": AT_URL["url"]}, AT_URL),
    ({"image_url": {"url": AT_URL["url"]}}, AT_URL),
    ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{CODED}"}}, IMAGE),
    (
        {"type": "image_url", "image_url": {"url": f"data:image/png;x=y;base64,{CODED}"}},
        IMAGE,
    ),
    (
        {"type": "image_url", "image_url": {"url": AT_URL["url"], "detail": "low"}},
        {**AT_URL, "detail": "low"},
    ),
    (
        {"type": "input_image", "image_url": AT_URL["url"], "detail": "high"},
        {**AT_URL, "detail": "high"},
    ),
    (
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": CODED}},
        {**IMAGE, "media_type": "image/jpeg"},
    ),
    ({"type": "image", "source": {"type": "url", "url": AT_URL["url"]}}, AT_URL),
    (PDF, PDF),
    (
        {
            "type": "document",
            "title": "report.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": CODED},
        },
        PDF,
    ),
    (
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
        {"type": "document", "data": b"hi", "media_type": "text/plain", "name": "document"},
    ),
    (
        {
            "type": "file",
            "file": {"filename": "report.pdf", "file_data": f"data:application/pdf;base64,{CODED}"},
        },
        PDF,
    ),
    ({"type": "input_file", "filename": "report.pdf", "file_data": CODED}, PDF),
    (
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {
            "type": "document",
            "url": "https://example.com/a.pdf",
            "media_type": "application/pdf",
            "name": "document",
        },
    ),
]


@pytest.mark.promise("S2-41")
@pytest.mark.parametrize(("part", "expected"), DIALECTS)
def test_a_part_in_any_vendors_shape_is_normalised(
    part: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert only(part) == expected


REFUSED: list[Any] = [
    {"type": "telepathy"},
    {},
    "just text",
    {"type": "text"},
    {"type": "text", "text": None},
    {"type": "text", "text": 3},
    {"type": "image"},
    {"type": "image", "data": b""},
    {"type": "image", "data": "no base64!"},
    {"type": "image", "data": 7},
    {"type": "image", "url": "data:image/png,percent%20encoded"},
    {"type": "image_url", "image_url": {}},
    {"type": "document", "source": "a path"},
    {"type": "document", "source": {"type": "text", "data": b"bytes"}},
    {"type": "file", "file": {"file_id": "file-1"}},
]


@pytest.mark.parametrize("part", REFUSED)
def test_an_invalid_part_is_rejected_with_its_position(part: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"content\[1\]"):
        list(parts_of(Message("user", [{"type": "text", "text": "look:"}, part])))


def test_the_error_of_an_invalid_part_does_not_contain_its_content() -> None:
    secret = "VERY-PRIVATE"
    with pytest.raises(InvalidRequestError) as caught:
        only({"type": "image", "data": f"{secret}!"})
    assert secret not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_text_is_one_part_and_empty_text_is_none() -> None:
    assert list(parts_of(Message("user", "hi"))) == [{"type": "text", "text": "hi"}]
    assert list(parts_of(Message("assistant", ""))) == []


@given(st.binary(min_size=1))
def test_data_survives_a_round_trip_through_a_data_url(data: bytes) -> None:
    url = data_url({"type": "image", "data": data, "media_type": "image/webp"})
    part = only({"type": "image_url", "image_url": {"url": url}})
    assert (part["data"], part["media_type"]) == (data, "image/webp")
    assert base64.b64decode(base64_of(part)) == data


def test_a_url_stays_a_url() -> None:
    assert data_url(AT_URL) == AT_URL["url"]


def test_system_messages_are_joined_and_the_others_keep_their_order() -> None:
    messages = [
        Message("system", "Be brief."),
        Message("user", "1"),
        Message("system", [{"type": "text", "text": "Be kind."}]),
        Message("assistant", "2"),
    ]
    system, others = split_system(messages)
    assert system == "Be brief.\n\nBe kind."
    assert [each.text for each in others] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [('{"a": 1}', {"a": 1}), ("", {}), (None, {}), ({"a": 1}, {"a": 1}), ("{}", {})],
)
def test_arguments_are_a_json_object(text: Any, expected: dict[str, Any]) -> None:
    assert json_arguments(text, "look_up") == expected


@pytest.mark.parametrize(
    "text", ["{oops", "[1]", "3", "null", '"x"', "\ud800", 7, b"\xff", [1], "[" * 10_000]
)
def test_other_arguments_are_an_invalid_response_that_names_the_tool(text: Any) -> None:
    with pytest.raises(InvalidResponseError, match="look_up"):
        json_arguments(text, "look_up")


@pytest.mark.parametrize(
    ("reported", "counted"),
    [
        *((7, 7), (7.0, 7), ("7", 7)),
        *((0, 0), (-3, 0), (-3.0, 0), (None, 0), (True, 0), (2.5, 0), (float("inf"), 0)),
        *(("", 0), ("many", 0), ("-3", 0), ("2.5", 0), ("²", 0), ("9" * 5000, 0), ([7], 0)),
    ],
)
def test_a_token_count_is_a_whole_number_or_zero(reported: Any, counted: int) -> None:
    assert token_count(reported) == counted


@given(st.text(), st.integers(12, 80))
def test_a_shortened_id_fits_and_is_stable(given_id: str, longest: int) -> None:
    fitting = shortened_id(given_id, longest)
    assert 0 < len(fitting) <= longest
    assert fitting == shortened_id(given_id, longest)
    if 0 < len(given_id) <= longest:
        assert fitting == given_id
