"""The models of a manager: registered, ordered, watched, reset and closed."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentkit.engine.call import Rules
from agentkit.engine.drivers.runtime import Runtime
from agentkit.engine.middleware import split
from agentkit.manager.keys import ConnectionPool, pool_status
from agentkit.manager.registry import Registry
from agentkit.manager.targets import build_answers, build_target, defaults_of
from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker
from agentkit.policy.budget import Budget, Price
from agentkit.policy.classification import RetryOn
from agentkit.policy.deadline import Deadline
from agentkit.policy.limits.window import RateLimits
from agentkit.policy.retry import RetryPolicy
from agentkit.policy.route import RouteOrder, Target
from agentkit.telemetry.otel import Telemetry
from agentkit.telemetry.recorder import Health, Recorder
from agentkit.types import Clock, Store
from agentkit.types.context import AsyncClosing, Closing

log = logging.getLogger("agentkit.manager")


class ManagedModels(Closing, AsyncClosing):
    """Everything about a manager's models but asking them; see `LLMManager`."""

    def __init__(
        self,
        max_retries: int = 3,
        enable_caching: bool = True,
        *,
        name: str = "default",
        retry: RetryPolicy | None = None,
        breaker: BreakerPolicy | bool | None = None,
        cache: Store | str | None = "disk",
        cache_dir: str | None = None,
        cache_ttl: float = 3600.0,
        cache_namespace: str = "",
        deadline: float | None = 300.0,
        middleware: Sequence[Any] = (),
        telemetry: Telemetry | None = None,
        route_order: RouteOrder | None = None,
        fallback_on_invalid: bool = False,
        fallback_on_content_filter: bool = False,
        budget: Budget | None = None,
        clock: Clock | None = None,
        rng: Callable[[], float] | None = None,
        max_workers: int = 128,
        strict: bool = False,
    ) -> None:
        self.name = name
        self._clock = clock or time.monotonic
        self._defaults = defaults_of(max_retries, retry, breaker, middleware)
        Deadline(deadline, 0.0)
        self._deadline = deadline
        self._middleware, of_attempts = split(middleware)
        self._route_order = route_order
        self._registry = Registry(strict=strict)
        self._recorder = Recorder(clock=self._clock)
        self._answers, key = build_answers(
            cache if enable_caching else None,
            directory=cache_dir, ttl=cache_ttl, namespace=cache_namespace, clock=clock,
        )  # fmt: skip
        self._runtime = Runtime(
            name, clock=self._clock, answers=self._answers, max_workers=max_workers,
        )  # fmt: skip
        self._observer = (telemetry or Telemetry()).observer(
            name, self._recorder, self._breakers, self._price
        )
        self._rules = Rules(
            self._observer, self._runtime.flights, self._clock, rng or random.random, key,
            self._answers is not None, fallback_on_invalid, fallback_on_content_filter,
            of_attempts, budget,
        )  # fmt: skip
        self._retired: list[Target] = []
        self._closed = False

    def register_model(
        self,
        name: str,
        inference_fn: Any,
        metadata: Mapping[str, Any] | None = None,
        *,
        retry: RetryPolicy | None = None,
        breaker: BreakerPolicy | CircuitBreaker | bool | None = None,
        timeout: float | None = None,
        first_token_timeout: float | None = None,
        retry_on: RetryOn | None = None,
        max_concurrency: int | None = None,
        limits: RateLimits | None = None,
        pool: ConnectionPool | None = None,
        replace: bool = False,
    ) -> None:
        """Register a model under `name`.

        Args:
            name: how this model is called from now on.
            inference_fn: ``f(prompt, kwargs)``, sync or async, a generator or async generator of
                text (a stream), a `Provider` object, or text such as ``"openai:<model>"``, whose
                key comes from the environment or the pool (and whose connections end with the
                manager; an object of yours stays yours to close). A first parameter named
                ``messages`` gets the list of messages.
            metadata: kept as it is. Read are ``provider``, ``context_window`` (tokens),
                ``version`` (names the callable's behaviour for the response cache) and
                ``cost_per_1k_tokens`` (USD).
            retry: instead of the manager's default.
            breaker: instead of the manager's default; may be a shared `CircuitBreaker`, or False
                for none.
            timeout: seconds for one attempt; of a stream, between two events. A blocking callable
                with a timeout runs on a worker thread and is let go of when it passes.
            first_token_timeout: seconds to the first content of a stream.
            retry_on: exception types that count as failure and are retried, or a function
                ``f(exc)`` that returns True (failure, retry), False (neutral, next model) or None.
            max_concurrency: most calls of this model under way at once.
            limits: requests and tokens a minute; calls wait in line for them.
            pool: several API keys, each with its own limits and health.
            replace: allow that `name` is registered already.

        Raises:
            ConfigurationError: a bad value, a taken name, not callable, wrong parameters.
        """
        target = build_target(
            name, inference_fn, metadata, self._defaults, clock=self._clock,
            changed=self._observer.breaker_changed, retry=retry, breaker=breaker, timeout=timeout,
            first_token_timeout=first_token_timeout, retry_on=retry_on,
            max_concurrency=max_concurrency, limits=limits, pool=pool,
        )  # fmt: skip
        old = self._registry.add(target, replace=replace)
        if old is not None:
            self._retire(old)

    def unregister_model(self, name: str) -> None:
        """Forget a model. Raises `UnknownModelError`."""
        self._retire(self._registry.remove(name))
        self._recorder.forget(name)

    def set_active_model(self, name: str) -> None:
        """The model that is asked first. Raises `UnknownModelError`."""
        self._registry.set_active(name)

    def set_fallback_chain(self, names: Sequence[str]) -> None:
        """The models asked after the active one, in order; alone it is the whole route.

        A name that is not registered is warned about once and skipped, unless `strict`.
        """
        self._registry.set_chain(names)

    def list_models(self) -> list[str]:
        """Registered names, in registration order."""
        return list(self._registry.targets)

    @property
    def closed(self) -> bool:
        """Whether `close` was called: a closed manager answers no more."""
        return self._closed

    def get_metrics(self) -> dict[str, Any]:
        """Totals of this manager since it was made; rates are fractions from 0 to 1.

        `stuck_calls` counts worker threads still held by calls that outlived their timeout.
        """
        return {
            **self._recorder.metrics(),
            "active_model": self._registry.active,
            "fallback_chain": list(self._registry.chain),
            "stuck_calls": self._runtime.workers.stuck,
        }

    def get_model_info(self, name: str) -> dict[str, Any]:
        """A model's metadata, statistics (seconds, counted by attempt) and breaker state.

        Raises:
            UnknownModelError: it is not registered.
        """
        target = self._registry.get(name)
        return {
            "name": name,
            "metadata": dict(target.metadata),
            "stats": self._recorder.model(name),
            "circuit_breaker_state": target.breaker_state,
        }

    def get_status(self) -> dict[str, Any]:
        """Everything at once: metrics, each model's info, key pools, and the response cache.

        Besides the keys of `get_metrics`, ``["metrics"]`` holds tokens, latency, errors_by_type,
        requests_by_model and tokens_by_model (see `Recorder.breakdown`), and the same for each
        provider under ``providers``.
        """
        targets = self._registry.targets
        by_provider: dict[str, list[str]] = {}
        for name, target in targets.items():
            by_provider.setdefault(target.provider, []).append(name)
        return {
            "name": self.name,
            "closed": self._closed,
            "metrics": {
                **self.get_metrics(),
                **self._recorder.breakdown(),
                "providers": {
                    provider: self._recorder.breakdown(names)
                    for provider, names in by_provider.items()
                },
            },
            "models": {name: self.get_model_info(name) for name in targets},
            "pools": {
                name: pool_status(target.pool, self._clock())
                for name, target in targets.items()
                if target.pool is not None
            },
            "response_cache": None if self._answers is None else self._answers.statistics(),
        }

    def health(self, name: str) -> Health:
        """How `name` did lately: success rate and latency. Raises `UnknownModelError`."""
        self._registry.get(name)
        return self._recorder.health(name)

    def clear_cache(self) -> None:
        """Empty the response cache of this manager's namespace, in memory and on disk."""
        if self._answers is not None:
            self._answers.clear()

    def reset_circuit_breaker(self, name: str) -> None:
        """Close a model's breaker by hand and forget its rest. Raises `UnknownModelError`."""
        target = self._registry.get(name)
        target.resting_until = -1.0
        if target.breaker is not None:
            target.breaker.reset()

    def close(self) -> list[str]:
        """End every thread and task this manager started; what was still under way, by label.

        Blocking calls in other threads cannot be ended; they finish on their own. Closing twice
        does nothing; a closed manager answers no more.
        """
        if self._closed:
            return []
        self._closed = True
        cut = self._runtime.close()
        for target in self._all_targets():
            target.close()
        if self._answers is not None:
            self._answers.close()
        if cut:
            log.warning("closed manager %s with %d calls under way", self.name, len(cut))
        return cut

    async def aclose(self) -> list[str]:
        """Like `close`, for asyncio; the loop goes on while it waits."""
        import asyncio

        if not self._closed:
            for target in self._all_targets():
                await target.aclose()
        return await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        models = ", ".join(self._registry.targets) or "no models"
        return f"<LLMManager {self.name}: {models}; active {self._registry.active}>"

    def _retire(self, target: Target) -> None:
        """`target` gets no new calls: close it, at the latest with the manager."""
        self._retired.append(target)
        for old in [each for each in self._retired if each.idle]:
            self._retired.remove(old)
            old.close()

    def _all_targets(self) -> list[Target]:
        return [*self._registry.targets.values(), *self._retired]

    def _breakers(self) -> dict[str, tuple[str, float]]:
        return {
            breaker.name: (breaker.state, breaker.statistics().failure_rate)
            for target in self._registry.targets.values()
            if (breaker := target.breaker) is not None
        }

    def _price(self, name: str) -> Price | None:
        target = self._registry.targets.get(name)
        return None if target is None else target.price
