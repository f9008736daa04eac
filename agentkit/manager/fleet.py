"""The fleet of a manager: where its processes meet, and the responses they share."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, get_args

from agentkit.cache.response import ResponseCache
from agentkit.cache.shared import SharedResponseCache
from agentkit.errors import ConfigurationError
from agentkit.policy.limits import Member, OnLoss, key_fingerprint
from agentkit.policy.target import Target
from agentkit.policy.validation import choice
from agentkit.state.questions import PREFIX
from agentkit.types import Now

if TYPE_CHECKING:
    from agentkit.state.budgets import SharedBudgets
    from agentkit.state.circuits import SharedCircuits
    from agentkit.state.shared_limits import SharedLimits
    from agentkit.state.valkey import ValkeyFleet

OFF = "off"
VARIABLE = "AGENTKIT_FLEET"
"""The variable of the environment that has the URL of the store."""


class FleetMember:
    """What a manager has of its fleet.

    Args:
        url: the URL of the store, or ``"off"``; None: ``AGENTKIT_FLEET``, or else ``"off"``.
        name: the name of the manager.
        cache: the response cache of the manager, or None.
        now: the clock of the manager.
        on_loss: the `on_fleet_loss` of the manager.

    Raises:
        ConfigurationError: `url` is not the URL of a store, or `on_loss` is unknown.
        MissingDependencyError: there is a URL, and redis-py is not installed.
    """

    def __init__(
        self,
        url: str | None,
        *,
        name: str,
        cache: ResponseCache | None,
        now: Now,
        on_loss: OnLoss = "share",
    ) -> None:
        url, source = fleet_url(url)
        choice("on_fleet_loss", on_loss, get_args(OnLoss))
        self._now, self._on_loss = now, on_loss
        self.fleet: ValkeyFleet | None = None
        self.responses: SharedResponseCache | None = None
        self.budgets: SharedBudgets | None = None
        self.circuits: SharedCircuits | None = None
        self._limits: weakref.WeakSet[SharedLimits] = weakref.WeakSet()
        self._leave: Callable[[], object] | None = None
        if url is None:
            return
        from agentkit.state.budgets import SharedBudgets
        from agentkit.state.circuits import SharedCircuits
        from agentkit.state.valkey import ValkeyFleet

        secret = os.environ.get("AGENTKIT_FLEET_SECRET", "")
        self.fleet = ValkeyFleet(url, name=name, source=source)
        self.budgets = SharedBudgets(self.fleet, now=now)
        # Also of a manager that was dropped, and at the end of the process.
        self._leave = weakref.finalize(self, _leave, self.fleet, self.budgets, self._limits)
        self.circuits = SharedCircuits(self.fleet, now=now)
        if cache is not None:
            self.responses = SharedResponseCache(self.fleet, cache, secret=secret)

    def share_circuit(self, target: Target, registered: Any) -> None:
        """Share the circuit of `target`, which was made of the provider `registered`.

        Processes share the circuit of a model at an address of a provider, if the rules of their
        breakers are the same.
        """
        if self.circuits is None or target.breaker is None:
            return
        identity = _digest(*_account_of(target.provider, registered), target.endpoint.model_id)
        target.circuit = self.circuits.share(target.breaker, identity)

    def share_limits(self, target: Target, registered: Any) -> None:
        """Share the limits of `target`, which was made of the provider `registered`.

        Processes share the limits of a key at a provider for a model, and the pause that the
        provider asks for: what has the same provider, address, model and key. Where there is no key
        or no address, or the model is a function, that is the provider's name and the model's. The
        store gets digests of it.
        """
        fleet, pool = self.fleet, target.pool
        if fleet is None:
            return
        from agentkit.state.pauses import SharedPause
        from agentkit.state.quota_questions import QuotaKeys
        from agentkit.state.shared_limits import SharedLimits

        now = self._now
        account = _account_of(target.provider, registered)
        own_key = _key_of(registered)
        names = []
        for member in (Member(),) if pool is None else pool.members:
            model = member.model or target.endpoint.model_id
            names.append(_digest(*account, model, member.name or own_key))
        line = _digest(*sorted(names))
        keys = QuotaKeys.of(_digest(*account), line, is_cluster=fleet.is_cluster)
        weak = weakref.ref(target)

        def pause(seconds: float) -> None:
            alive = weak()
            if alive is not None:
                alive.pause(seconds, now())

        if pool is None:
            target.report_pause = SharedPause(fleet, keys, names[0], pause).report
            return
        pool.sharing = limits = SharedLimits(
            fleet, pool, keys=keys, names=names, now=now, on_loss=self._on_loss, pause=pause
        )
        self._limits.add(limits)

    def clear_responses(self) -> None:
        """Delete the responses of this manager's namespace from the store, in the background."""
        if self.fleet is not None and self.responses is not None:
            self.fleet.clear(f"{PREFIX}{self.responses.cache.group}:")

    def connection(self) -> dict[str, Any] | None:
        """See `ValkeyFleet.statistics`; None without a fleet."""
        return None if self.fleet is None else self.fleet.statistics()

    def statistics(self, targets: Mapping[str, Target]) -> dict[str, Any] | None:
        """See `ValkeyFleet.statistics`, with what `targets` share; None without a fleet."""
        if self.fleet is None:
            return None
        circuits = {
            name: target.circuit.statistics()
            for name, target in targets.items()
            if target.circuit is not None
        }
        limits = {
            name: target.pool.sharing.statistics()
            for name, target in targets.items()
            if target.pool is not None and target.pool.sharing is not None
        }
        return {**self.fleet.statistics(), "circuits": circuits, "limits": limits}

    def close(self) -> None:
        """Leave the fleet."""
        if self._leave is not None:
            self._leave()


def _leave(
    fleet: ValkeyFleet, budgets: SharedBudgets, limits: weakref.WeakSet[SharedLimits]
) -> None:
    """Report what was spent, give back what was taken ahead, and send it."""
    budgets.close()
    for each in list(limits):
        each.close()
    fleet.close()


def _account_of(provider: str, registered: Any) -> tuple[str, str, str]:
    """Whose usage the provider counts together, apart from the key."""
    address = getattr(registered, "base_url", None)
    region = getattr(registered, "region", None)
    return provider, str(address or ""), str(region or "")


def _key_of(registered: Any) -> str:
    """The fingerprint of the provider's own key, as that of a key in a pool."""
    find = getattr(registered, "find_key", None)
    try:
        return key_fingerprint(None if find is None else find())
    except ConfigurationError:  # there is none yet
        return key_fingerprint(None)


def _digest(*parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=12).hexdigest()


def fleet_url(given: Any) -> tuple[str | None, str]:
    """The URL of the store, None without one, and where it was found: ``fleet`` or a variable.

    Args:
        given: the URL, or ``"off"``; None: ``AGENTKIT_FLEET``, or else ``"off"``.

    Raises:
        ConfigurationError: `given` is of another type.
    """
    source = "fleet"
    if given is None:
        source, given = VARIABLE, os.environ.get(VARIABLE, "").strip() or OFF
    if not isinstance(given, str):
        raise ConfigurationError(
            f"fleet must be a str or None, got {type(given).__name__}",
            hint="pass a URL such as valkey://host:6379/0",
        )
    return (None if given == OFF else given), source
