"""The fleet of a manager: where its processes meet, and the responses they share."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentkit.cache.response import ResponseCache
from agentkit.cache.shared import SharedResponseCache
from agentkit.errors import ConfigurationError
from agentkit.policy.target import Target
from agentkit.state.questions import PREFIX
from agentkit.types import Now

if TYPE_CHECKING:
    from agentkit.state.budgets import SharedBudgets
    from agentkit.state.circuits import SharedCircuits
    from agentkit.state.valkey import ValkeyFleet

OFF = "off"


class FleetMember:
    """What a manager has of its fleet.

    Args:
        url: the URL of the store, or ``"off"``; None: ``AGENTKIT_FLEET``, or else ``"off"``.
        name: the name of the manager.
        cache: the response cache of the manager, or None.
        now: the clock of the manager.

    Raises:
        ConfigurationError: `url` is not the URL of a store.
        MissingDependencyError: there is a URL, and redis-py is not installed.
    """

    def __init__(
        self, url: str | None, *, name: str, cache: ResponseCache | None, now: Now
    ) -> None:
        url = _url_of(url)
        self.fleet: ValkeyFleet | None = None
        self.responses: SharedResponseCache | None = None
        self.budgets: SharedBudgets | None = None
        self.circuits: SharedCircuits | None = None
        if url is None:
            return
        from agentkit.state.budgets import SharedBudgets
        from agentkit.state.circuits import SharedCircuits
        from agentkit.state.valkey import ValkeyFleet

        secret = os.environ.get("AGENTKIT_FLEET_SECRET", "")
        self.fleet = ValkeyFleet(url, name=name)
        self.budgets = SharedBudgets(self.fleet)
        # Of a manager that was dropped, and at the end of the process: what was posted is sent.
        weakref.finalize(self, self.fleet.close)
        self.circuits = SharedCircuits(self.fleet, now=now)
        if cache is not None:
            self.responses = SharedResponseCache(self.fleet, cache, secret=secret)

    def clear_responses(self) -> None:
        """Delete the responses of this manager's namespace from the store, in the background."""
        if self.fleet is not None and self.responses is not None:
            self.fleet.clear(f"{PREFIX}{self.responses.cache.group}:")

    def statistics(self, targets: Mapping[str, Target]) -> dict[str, Any] | None:
        """See `ValkeyFleet.statistics`, with the circuits of `targets`; None without a fleet."""
        if self.fleet is None:
            return None
        circuits = {
            name: target.circuit.statistics()
            for name, target in targets.items()
            if target.circuit is not None
        }
        return {**self.fleet.statistics(), "circuits": circuits}

    def close(self) -> None:
        """Leave the fleet."""
        if self.budgets is not None:
            self.budgets.close()
        if self.fleet is not None:
            self.fleet.close()


def _url_of(spec: Any) -> str | None:
    if spec is None:
        spec = os.environ.get("AGENTKIT_FLEET", "").strip() or OFF
    if not isinstance(spec, str):
        raise ConfigurationError(
            f"fleet must be a str or None, got {type(spec).__name__}",
            hint="pass a URL such as valkey://host:6379/0",
        )
    return None if spec == OFF else spec
