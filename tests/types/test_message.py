"""How a message is made."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import InvalidRequestError, Message, MessageRole, ToolCall


@pytest.mark.promise("S2-19")
def test_a_message_is_made_by_position_or_by_name() -> None:
    by_position = Message(MessageRole.USER, "hi")
    assert by_position == Message(role="user", content="hi")
    assert by_position.role == "user"
    with pytest.raises(InvalidRequestError, match="role"):
        Message("robot", "hi")


def test_an_assistants_message_without_content_is_empty() -> None:
    calls = (ToolCall("c1", "search"),)
    assert Message("assistant", None, tool_calls=calls).text == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("role", "content"), [("user", None), ("tool", None), ("assistant", 3), ("user", {"a", "b"})]
)
def test_content_of_another_type_is_refused(role: str, content: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"content of a {role} message") as caught:
        Message(role, content)
    assert caught.value.hint == "give a string, or a list of parts"
