# Written by `python -m tests.architecture.stubs`.

from agentkit.testing import faults
from agentkit.testing.clock import FakeClock
from agentkit.testing.mock_client import (
    MockCall,
    MockLLMClient,
)
from agentkit.testing.model import (
    RecordedCall,
    ScriptedModel,
    ScriptExhaustedError,
    StreamingModel,
    overloaded,
    rate_limited,
    server_error,
    timeout,
    unauthorized,
)
from agentkit.testing.network import (
    NetworkForbiddenError,
    forbid_network,
)
from agentkit.testing.player import (
    Played,
    play,
)
from agentkit.testing.script import (
    HTTPStatusError,
    Returns,
    ScriptError,
    Step,
)
from agentkit.testing.wire.protocol import RecordedRequest
from agentkit.testing.wire.server import WireServer

__all__ = [
    "FakeClock",
    "HTTPStatusError",
    "MockCall",
    "MockLLMClient",
    "NetworkForbiddenError",
    "Played",
    "RecordedCall",
    "RecordedRequest",
    "Returns",
    "ScriptError",
    "ScriptExhaustedError",
    "ScriptedModel",
    "Step",
    "StreamingModel",
    "WireServer",
    "faults",
    "forbid_network",
    "overloaded",
    "play",
    "rate_limited",
    "server_error",
    "timeout",
    "unauthorized",
]
