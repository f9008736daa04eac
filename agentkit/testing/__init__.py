"""Tools for testing code that calls models.

`ScriptedModel` answers and fails by a script, inside the process; `WireServer` does the same on a
real socket, in the providers' wire formats; `faults` names the failures for both. `FakeClock` is
time that passes on demand, `play` runs an engine flow without any I/O, and `forbid_network` keeps
a test run on this machine. Names are imported when they are first used.
"""

from __future__ import annotations

from agentkit._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "agentkit.testing": ["faults"],
        "agentkit.testing.clock": ["FakeClock"],
        "agentkit.testing.mock_client": ["MockCall", "MockLLMClient"],
        "agentkit.testing.model": [
            "RecordedCall",
            "ScriptExhaustedError",
            "ScriptedModel",
            "StreamingModel",
            "overloaded",
            "rate_limited",
            "server_error",
            "timeout",
            "unauthorized",
        ],
        "agentkit.testing.network": ["NetworkForbiddenError", "forbid_network"],
        "agentkit.testing.player": ["Played", "play"],
        "agentkit.testing.script": ["HTTPStatusError", "Returns", "ScriptError", "Step"],
        "agentkit.testing.wire.protocol": ["RecordedRequest"],
        "agentkit.testing.wire.server": ["WireServer"],
    },
)
