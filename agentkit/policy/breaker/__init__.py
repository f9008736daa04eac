"""The circuit breaker: the rules it follows, its states and the permits it gives."""

from agentkit.policy.breaker.breaker import CircuitBreaker, OpenedSignal, Permit
from agentkit.policy.breaker.policy import BreakerPolicy, BreakerStatistics
from agentkit.policy.breaker.report import ProbeOutcome
from agentkit.policy.breaker.serial import SerialQueue

__all__ = [
    "BreakerPolicy",
    "BreakerStatistics",
    "CircuitBreaker",
    "OpenedSignal",
    "Permit",
    "ProbeOutcome",
    "SerialQueue",
]
