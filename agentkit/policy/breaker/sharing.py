"""What a circuit breaker needs to share its circuit with other processes."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

ProbeOutcome: TypeAlias = Literal["success", "failure", "left"]


class Ticket(Protocol):
    """The right to probe for all processes that share a circuit."""

    def use(self, outcome: ProbeOutcome) -> None:
        """Tell the others how the probe ended; ``left``: it said nothing."""
        ...


class Sharing(Protocol):
    """Is told what a breaker has counted. It never raises, and never waits."""

    def failed(self) -> None:
        """A call failed that did not probe for others."""
        ...

    def reset(self) -> None:
        """A person closed the circuit."""
        ...
