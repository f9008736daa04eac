"""The targets of a Bedrock manager: each model in each Region."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

from agentkit.bedrock.attempts import RequestAttempt
from agentkit.bedrock.catalog.catalog import BedrockModelCatalog
from agentkit.bedrock.options import RetryConfig, RetryStrategy
from agentkit.errors import ConfigurationError
from agentkit.manager.manager import LLMManager as Core
from agentkit.policy.breaker import BreakerPolicy
from agentkit.policy.health import HealthAware
from agentkit.policy.route import Route
from agentkit.providers.bedrock.clients import Clients
from agentkit.providers.bedrock.converse import ConverseTarget
from agentkit.providers.bedrock.errors import PROVIDER
from agentkit.providers.requirements import TransportName, transport_name
from agentkit.telemetry.otel import Telemetry
from agentkit.types.ledger import Entry, Ledger


class Targets:
    """Resolves models and Regions into targets, and makes the route of each request.

    `core` is the manager that has the targets, under the names ``<model> @ <region>``.
    """

    def __init__(
        self,
        models: Sequence[str],
        regions: Sequence[str],
        *,
        catalog: BedrockModelCatalog,
        clients: Clients,
        retry: RetryConfig,
        timeout: float,
        telemetry: Telemetry | None,
        transport: TransportName | None,
    ) -> None:
        self._models = list(models)
        self._regions = list(regions)
        self._catalog = catalog
        self._clients = clients
        self._retry = retry
        self._timeout = timeout
        self._transport = transport_name(transport)
        self._turn = itertools.count()
        self.core = Core(
            name="bedrock",
            enable_caching=False,
            retry=retry.policy(),
            breaker=BreakerPolicy(
                failure_threshold=retry.circuit_breaker_threshold,
                recovery_timeout=retry.circuit_breaker_timeout,
            )
            if retry.enable_circuit_breaker
            else False,
            deadline=timeout,
            telemetry=telemetry,
            max_workers=max(128, clients.concurrency),
        )
        self._by_name: dict[str, ConverseTarget] = {}
        self.warnings: list[str] = []
        self.refresh()

    @property
    def names(self) -> list[str]:
        """The targets that can be reached, in the configured order."""
        return list(self._by_name)

    def refresh(self) -> None:
        """Resolve every model in every Region again.

        Raises:
            UnknownModelError: no model has one of the names.
            ConfigurationError: no model can be reached from any Region.
        """
        found: dict[str, ConverseTarget] = {}
        warnings: list[str] = []
        for model in self._models:
            reached = 0
            for region in self._regions:
                routes = self._catalog.routes(model, region, self._retry.preference)
                if routes:
                    reached += 1
                    target = ConverseTarget(
                        model, region, routes, self._clients, transport=self._transport
                    )
                    found[target_name(model, region)] = target
                else:
                    warnings.append(f"{model} cannot be reached from {region}")
            info = self._catalog.resolve(model)
            if info is not None and info.retired:
                warnings.append(f"{model} is retired: the service may refuse it")
            if not reached:
                warnings.append(f"{model} cannot be reached from any of the Regions")
        if not found:
            raise ConfigurationError(
                f"none of {', '.join(self._models)} can be reached from {', '.join(self._regions)}",
                hint="list_models(region=...) of the catalogue lists what can; global inference "
                "profiles need access_method_preference",
            )
        self._by_name, self.warnings = found, warnings
        for name, target in found.items():
            self.core.register_model(
                name,
                target,
                {"provider": PROVIDER},
                retry_on=self._retry.retry_on(),
                replace=True,
            )

    def route(self, regions: Sequence[str] | None = None, attempts: int | None = None) -> Route:
        """The route of one request, in rounds.

        It tries `regions` first, in that order, and makes at most `attempts`.
        """
        wanted = [
            target_name(model, region)
            for model, region in self._ordered(regions)
            if target_name(model, region) in self._by_name
        ]
        registered = self.core.registry.targets
        stops: Sequence[Any] = [registered[name] for name in wanted]
        if self._retry.region_order == "health":
            stops = HealthAware()(stops, self.core.health)
        return Route(tuple(stops), "rounds", attempts or self._retry.max_attempts)

    def attempts(self, ledger: Ledger) -> list[RequestAttempt]:
        """Every request sent, in order."""
        return [self._attempt(entry, number) for number, entry in enumerate(ledger.sent, start=1)]

    def _attempt(self, entry: Entry, number: int) -> RequestAttempt:
        model, region = split_name(entry.model)
        target = self._by_name.get(entry.model)
        return RequestAttempt.from_entry(
            entry,
            number,
            model=model,
            region=region,
            route=None if target is None else target.routes[0],
        )

    def _ordered(self, first: Sequence[str] | None) -> list[tuple[str, str]]:
        """(model, Region) in the order of this request."""
        places = list(self._regions)
        turn = next(self._turn) % len(places)
        if self._retry.region_order == "rotate":
            places = places[turn:] + places[:turn]
        elif self._retry.region_order == "shuffle":
            random.shuffle(places)
        if first:
            places = [*first, *(place for place in places if place not in first)]
        if self._retry.target_order is RetryStrategy.MODEL_FIRST:
            return [(model, region) for region in places for model in self._models]
        return [(model, region) for model in self._models for region in places]


def target_name(model: str, region: str) -> str:
    """The name of a target."""
    return f"{model} @ {region}"


def split_name(name: str) -> tuple[str, str]:
    """The model and the Region of a target."""
    model, _, region = name.rpartition(" @ ")
    return model, region
