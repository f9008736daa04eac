"""What tests of model calls need: a provider that fails on demand, and a lock on the network."""

from agentkit.testing import faults
from agentkit.testing.network import NetworkForbiddenError, forbid_network
from agentkit.testing.server import WireServer
from agentkit.testing.wire import RecordedRequest

__all__ = [
    "NetworkForbiddenError",
    "RecordedRequest",
    "WireServer",
    "faults",
    "forbid_network",
]
