"""How many tokens a request will take, before anybody counts them."""

from __future__ import annotations

from agentkit.policy.quota import Need
from agentkit.types import Request

BYTES_PER_TOKEN = 4
DEFAULT_OUTPUT = 1024
"""Tokens reserved for an answer whose request sets no maximum."""

_MESSAGE = 4
"""Tokens that a provider's chat format adds to each message."""
_IMAGE = 1000
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def estimate(request: Request) -> Need:
    """Input tokens by the length of the texts, output tokens by the request's own maximum."""
    size = 0
    pictures = 0
    messages = request.conversation
    for message in messages:
        size += len(message.text.encode("utf-8", "replace"))
        if not isinstance(message.content, str):
            pictures += sum("text" not in part for part in message.content)
    tokens = -(-size // BYTES_PER_TOKEN) + _MESSAGE * len(messages) + _IMAGE * pictures
    return Need(tokens, _asked_output(request))


def _asked_output(request: Request) -> int:
    for name in _LIMITS:
        value = request.params.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return DEFAULT_OUTPUT
