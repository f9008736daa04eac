"""How a message is made."""

from __future__ import annotations

import pytest

from agentkit import InvalidRequestError, Message, MessageRole


@pytest.mark.promise("S2-19")
def test_a_message_is_made_by_position_or_by_name() -> None:
    by_position = Message(MessageRole.USER, "hi")
    assert by_position == Message(role="user", content="hi")
    assert by_position.role == "user"
    with pytest.raises(InvalidRequestError, match="role"):
        Message("robot", "hi")
