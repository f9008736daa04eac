"""Images and files in the results of tools, and text without a visible character."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.testing import WireServer
from agentkit.types import Message, ToolCall
from tests.providers.asking import CALL, DATA_URL, PNG, asking, every_way
from tests.providers.contract import PROVIDERS

pytestmark = pytest.mark.wire

IMAGE = {"type": "image", "data": PNG, "media_type": "image/png"}
CODED = DATA_URL.partition(",")[2]
OTHER = ToolCall("call_2", "clock")
CONVERSATION = [
    Message("user", "Where is this?"),
    Message("assistant", "", tool_calls=(CALL, OTHER)),
    Message("tool", [{"type": "text", "text": "a map"}, IMAGE], tool_call_id="call_1"),
    Message("tool", "noon", tool_call_id="call_2"),
]


@pytest.mark.parametrize("provider", PROVIDERS)
@every_way
def test_an_image_in_the_result_of_a_tool_is_sent(provider: str, way: str) -> None:
    with WireServer() as server, asking(PROVIDERS[provider].make(server)) as asker:
        reply = asker.ask(way, CONVERSATION)
        body = str(server.requests[0].body)
    assert body.count(CODED) == 1
    assert "a map" in body
    assert reply.omitted == ()


@pytest.mark.parametrize("provider", ["openai", "groq", "compatible"])
@pytest.mark.parametrize("last", [[], [Message("user", "And tomorrow?")]])
def test_chat_completions_have_it_in_the_next_users_message(
    provider: str, last: list[Message]
) -> None:
    """Only text is allowed in a tool's message, and nothing between those of one answer."""
    with WireServer() as server, asking(PROVIDERS[provider].make(server)) as asker:
        asker.ask("sync", [*CONVERSATION, *last])
        messages = server.requests[0].body["messages"]
    note = "(Its images and files follow in the next user message.)"
    assert messages[2:5] == [
        {"role": "tool", "tool_call_id": "call_1", "content": f"a map\n{note}"},
        {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "From the result of call_1:"},
                {"type": "image_url", "image_url": {"url": DATA_URL}},
            ],
        },
    ]
    assert messages[5:] == [{"role": "user", "content": each.text} for each in last]


def test_anthropic_gets_no_blank_text() -> None:
    blank: list[dict[str, Any]] = [{"type": "text", "text": " "}, {"type": "text", "text": "Well?"}]
    with WireServer() as server, asking(PROVIDERS["anthropic"].make(server)) as asker:
        asker.ask(
            "sync",
            [
                Message("system", " "),
                Message("user", "\n"),
                Message("assistant", "  ", tool_calls=(CALL,)),
                Message("tool", blank, tool_call_id="call_1"),
                Message("assistant", "\t"),
                Message("user", blank),
            ],
        )
        body = server.requests[0].body
    assert "system" not in body
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][0]["content"] == "(empty)"
    assert [each["type"] for each in body["messages"][1]["content"]] == ["tool_use"]
    result, question = body["messages"][2]["content"]
    assert result["content"] == [question] == [{"type": "text", "text": "Well?"}]
