"""Protocols of a circuit that several processes share."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

ProbeOutcome: TypeAlias = Literal["success", "failure", "left"]


class Ticket(Protocol):
    """The right to probe for all processes that share a circuit."""

    def use(self, outcome: ProbeOutcome) -> None:
        """Report how the probe ended; ``left``: it shows nothing about the model."""
        ...


class Reporter(Protocol):
    """Reports to other processes what a breaker has counted. It never raises, and never waits."""

    def failed(self) -> None:
        """A call failed that did not probe for others."""
        ...

    def reset(self) -> None:
        """A person closed the circuit."""
        ...
