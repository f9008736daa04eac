"""What tests of model calls need.

`ScriptedModel` answers and fails as told, inside the process; `WireServer` does it on a real
socket with the providers' wire formats; `faults` names what can go wrong for both. `FakeClock` is
time that passes on demand, `play` carries an engine flow out with no I/O at all, and
`forbid_network` keeps a test run on this machine. Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkit.testing import faults
    from agentkit.testing.clock import FakeClock
    from agentkit.testing.mock_client import MockCall, MockLLMClient
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
    from agentkit.testing.network import NetworkForbiddenError, forbid_network
    from agentkit.testing.player import Played, play
    from agentkit.testing.script import HTTPStatusError, Returns, ScriptError, Step
    from agentkit.testing.wire.protocol import RecordedRequest
    from agentkit.testing.wire.server import WireServer

_HOMES = {
    "clock": ("FakeClock",),
    "mock_client": ("MockCall", "MockLLMClient"),
    "network": ("NetworkForbiddenError", "forbid_network"),
    "script": ("HTTPStatusError", "Returns", "ScriptError", "Step"),
    "player": ("Played", "play"),
    "model": (
        "RecordedCall", "ScriptExhaustedError", "ScriptedModel", "StreamingModel", "overloaded",
        "rate_limited", "server_error", "timeout", "unauthorized",
    ),
    "wire.server": ("WireServer",),
    "wire.protocol": ("RecordedRequest",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "FakeClock", "HTTPStatusError", "MockCall", "MockLLMClient", "NetworkForbiddenError",
    "Played", "RecordedCall", "RecordedRequest", "Returns", "ScriptError",
    "ScriptExhaustedError", "ScriptedModel",
    "Step", "StreamingModel", "WireServer", "faults", "forbid_network", "overloaded", "play",
    "rate_limited", "server_error", "timeout", "unauthorized",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "faults":
        return import_module("agentkit.testing.faults")
    if name not in _HOME:
        raise AttributeError(f"module 'agentkit.testing' has no attribute {name!r}")
    value = getattr(import_module(f"agentkit.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
