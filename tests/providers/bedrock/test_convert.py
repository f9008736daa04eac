"""Converse messages and core messages say the same."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from agentkit.bedrock import create_assistant_message, create_user_message
from agentkit.errors import RequestValidationError
from agentkit.providers.bedrock.encoding import from_messages, to_messages
from agentkit.types import Message, ToolCall
from tests.bedrock.messages import samples as s


def test_text_stays_text_both_ways() -> None:
    message = create_user_message().add_text("hi").build()
    (core,) = to_messages(message)
    assert (core.role, core.content) == ("user", "hi")
    assert from_messages([core]) == ([], [message])


def test_every_block_comes_back_as_it_was() -> None:
    user = (
        create_user_message()
        .add_text("look")
        .add_image_bytes(s.PNG)
        .add_document_bytes(s.PDF, name="Report")
        .add_document_bytes(s.PDF, citations_enabled=True)
        .add_video_bytes(s.MP4)
        .add_cache_point(ttl="5m")
        .add_image_s3("s3://bucket/a.png", "png")
        .build()
    )
    assistant = (
        create_assistant_message()
        .add_reasoning_content("because", "sig")
        .add_text("I ask")
        .add_tool_use("id-1", "weather", {"at": "X"})
        .build()
    )
    result = create_user_message().add_tool_result("id-1", "sunny", "success").build()
    turns = [user, assistant, result]
    core = [message for turn in turns for message in to_messages(turn)]
    assert from_messages(core) == ([], turns)
    assert s.accepts(*from_messages(core)[1])
    assert core[0].content[1] == {"type": "image", "data": s.PNG, "media_type": "image/png"}
    assert core[1].tool_calls == (ToolCall("id-1", "weather", {"at": "X"}),)
    assert (core[2].role, core[2].text, core[2].tool_call_id) == ("tool", "sunny", "id-1")


def test_system_messages_are_apart_and_neighbours_of_one_role_are_one_message() -> None:
    system, turns = from_messages(
        [
            Message("system", "be kind"),
            Message("user", "a"),
            Message("user", "b"),
            Message("assistant", "", tool_calls=(ToolCall("1", "f", {}), ToolCall("2", "g", {}))),
            Message("tool", "one", tool_call_id="1"),
            Message("tool", "two", tool_call_id="2", metadata={"status": "error"}),
        ]
    )
    assert system == [{"text": "be kind"}]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[0]["content"] == [{"text": "a"}, {"text": "b"}]
    assert len(turns[1]["content"]) == 2
    assert turns[2]["content"][1]["toolResult"]["status"] == "error"
    assert s.accepts(*turns)


def test_a_json_result_is_readable_text() -> None:
    message = create_user_message().add_tool_result("1", {"ok": True}).build()
    assert to_messages(message)[0].text == '{"ok": true}'


def test_data_urls_are_decoded_and_s3_is_passed_on() -> None:
    url = "data:image/png;base64," + base64.b64encode(s.PNG).decode()
    parts: list[dict[str, Any]] = [
        {"type": "image", "url": url},
        {"type": "image", "url": "s3://bucket/a.gif", "media_type": "image/gif"},
    ]
    _, (turn,) = from_messages([Message("user", parts)])
    assert turn["content"][0]["image"] == {"format": "png", "source": {"bytes": s.PNG}}
    assert turn["content"][1]["image"]["source"]["s3Location"]["uri"] == "s3://bucket/a.gif"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "url": "https://example.org/a.png"},
        {"type": "image", "url": "data:image/png;base64,***"},
        {"type": "image", "data": b"x", "media_type": "image/tiff"},
        {"type": "document", "data": b"x", "media_type": "application/zip"},
        {"type": "hologram"},
    ],
)
def test_what_the_service_cannot_take_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(RequestValidationError):
        from_messages([Message("user", [part])])
