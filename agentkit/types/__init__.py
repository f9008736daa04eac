"""The values that agentkit passes around, and the protocols that others implement.

All values are immutable, except a `Ledger`, which grows while its request runs.
"""

from agentkit.types.events import (
    End,
    OnInterrupt,
    RawEvent,
    ReasoningDelta,
    ResponseBuilder,
    Restart,
    StreamEvent,
    TextDelta,
)
from agentkit.types.message import Message, MessageRole, ProviderState, ToolCall, ToolSpec
from agentkit.types.provider import Clock, Now, Provider, Signal, Store
from agentkit.types.request import Request
from agentkit.types.response import Quota, Response
from agentkit.types.usage import Usage

__all__ = [
    "Clock",
    "End",
    "Message",
    "MessageRole",
    "Now",
    "OnInterrupt",
    "Provider",
    "ProviderState",
    "Quota",
    "RawEvent",
    "ReasoningDelta",
    "Request",
    "Response",
    "ResponseBuilder",
    "Restart",
    "Signal",
    "Store",
    "StreamEvent",
    "TextDelta",
    "ToolCall",
    "ToolSpec",
    "Usage",
]
