"""The manager: registered models behind every policy of the engine."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agentkit.engine.call import Rules
from agentkit.engine.drivers.clock import as_clock
from agentkit.engine.drivers.runtime import Runtime
from agentkit.engine.drivers.streams import AsyncStream, Stream
from agentkit.engine.middleware import split
from agentkit.manager.batch import BatchResult, Item, Progress, arun_batch, run_batch
from agentkit.manager.client import LLMClient
from agentkit.manager.dispatcher import Dispatcher
from agentkit.manager.keys import ConnectionPool, pool_status
from agentkit.manager.registry import ModelRegistry
from agentkit.manager.requests import Prompt, request_for
from agentkit.manager.targets import build_cache, build_target, defaults_of
from agentkit.output.validation import TypeCheck, check_for
from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker
from agentkit.policy.budget import Budget
from agentkit.policy.classification import RetryOn
from agentkit.policy.health import RouteOrder
from agentkit.policy.limits import RateLimits
from agentkit.policy.retry import RetryPolicy
from agentkit.telemetry.otel import Telemetry
from agentkit.telemetry.recorder import Health, Recorder
from agentkit.types import Clock, Now, OnInterrupt, Request, Response, Store
from agentkit.types.context import AsyncClosing, Closing

log = logging.getLogger("agentkit.manager")


class LLMManager(Closing, AsyncClosing):
    """Registered models behind retries, circuit breakers, a fallback chain and a response cache.

    Every method named ``x`` has a twin ``ax`` with the same signature for asyncio; both run the
    same engine and share breakers, limits and the response cache. Safe to use from many threads
    and event loops at once.

    Args:
        max_retries: attempts in all for each model (default 3; 1 is a single attempt).
        enable_caching: whether the response cache is on (default True).
        name: names this manager in telemetry and threads.
        retry: the default `RetryPolicy` of models; wins over `max_retries`.
        breaker: the default `BreakerPolicy` of models; False: no breakers.
        cache: what the response cache keeps answers in: ``"disk"`` (memory over disk, default),
            ``"memory"``, a `Store`, or None (off).
        cache_dir: its directory (default ``AGENTKIT_CACHE_DIR`` or the user's cache directory).
        cache_ttl: seconds for which an answer is kept (default 3600).
        cache_namespace: enters every key; `clear_cache` clears this namespace only.
        deadline: seconds for a whole request, retries and fallbacks included (default 300;
            None: no limit).
        middleware: generator functions around each request or attempt, outermost first.
        telemetry: a `Telemetry`; default: spans and metrics through the OpenTelemetry API.
        route_order: reorders each request's models by health, e.g. `HealthAware()`.
        budget: a limit on the tokens or money of all calls together; a request that does not fit
            is not sent.
        fallback_on_invalid: ask a model of another provider when one rejects the request.
        fallback_on_content_filter: ask the next model when one refuses by policy.
        clock: for tests, a `FakeClock` or a function that gives seconds and never goes back
            (default `time.monotonic`).
        rng: uniform [0, 1) for jitter, for tests (default `random.random`).
        max_workers: how many worker threads may run sync callables (default 128).
        strict: unknown names in a fallback chain raise instead of warning.

    Raises:
        ConfigurationError: a value cannot work; the message names it and the remedy.
    """

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
        clock: Clock | Now | None = None,
        rng: Callable[[], float] | None = None,
        max_workers: int = 128,
        strict: bool = False,
    ) -> None:
        self.name = name
        waiting = as_clock(clock)
        self._now = waiting.now
        self._defaults = defaults_of(max_retries, retry, breaker, middleware)
        self.registry = ModelRegistry(strict=strict)
        """The models, the active one, the fallback chain, and the routes they make."""
        self._recorder = Recorder(clock=self._now)
        self._cache, key = build_cache(
            cache if enable_caching else None,
            directory=cache_dir,
            ttl=cache_ttl,
            namespace=cache_namespace,
            clock=None if clock is None else self._now,
        )
        self._observer = (telemetry or Telemetry()).observer(
            name, self._recorder, self.registry.breaker_states, self.registry.price
        )
        of_requests, of_attempts = split(middleware)
        runtime = Runtime(name, clock=waiting, cache=self._cache, max_workers=max_workers)
        rules = Rules(
            observer=self._observer,
            shared_calls=runtime.shared_calls,
            now=self._now,
            rng=rng or random.random,
            key=key,
            caching=self._cache is not None,
            fallback_on_invalid=fallback_on_invalid,
            fallback_on_content_filter=fallback_on_content_filter,
            attempt_middleware=of_attempts,
            budget=budget,
        )
        self.dispatcher = Dispatcher(
            self.registry,
            runtime,
            rules,
            name=name,
            deadline=deadline,
            middleware=of_requests,
            route_order=route_order,
            health=self._recorder.health,
        )
        """Sends requests; every other method that asks a model goes through it."""

    def generate(self, prompt: str, use_cache: bool = True, **kwargs: Any) -> str:
        """The text of the first model that answers; `kwargs` reach it as they are.

        Raises:
            LLMError: no model answered; `.ledger` has every attempt.
        """
        return self.dispatcher.run(request_for(prompt, kwargs, use_cache=use_cache)).text

    async def agenerate(self, prompt: str, use_cache: bool = True, **kwargs: Any) -> str:
        """Like `generate`, for asyncio."""
        response = await self.dispatcher.arun(request_for(prompt, kwargs, use_cache=use_cache))
        return response.text

    def complete(
        self,
        prompt: Prompt,
        *,
        model: str | Sequence[str] | None = None,
        response_model: type[Any] | None = None,
        tools: Sequence[Any] | None = None,
        use_cache: bool = True,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        priority: int = 0,
        **params: Any,
    ) -> Response[Any]:
        """The complete `Response`: text, usage, the model that answered, and the ledger.

        Args:
            prompt: text, or a list of messages.
            model: ask this model (or these, in order) in place of the active model and the chain.
            response_model: a pydantic model or any type pydantic can validate; the answer's JSON
                is validated into `Response.parsed`, and violations go back to the model.
            tools: asked of models that can use them; others are skipped.
            use_cache: False neither reads nor writes the response cache.
            deadline: seconds for this request (default: the manager's).
            retry: for this request in place of each model's own policy.
            budget: a limit on the tokens or money of this request, beside the manager's.
            priority: requests with a higher priority get quota first (default 0; one step is
                worth ten seconds of waiting, so that no request starves).
            params: the model's own options.

        Raises:
            LLMError: no model answered; `.ledger` has every attempt.
        """
        request = request_for(prompt, params, tools=tools, use_cache=use_cache, priority=priority)
        check, request = _check_for(response_model, request)
        return self.dispatcher.run(
            request, model=model, deadline=deadline, retry=retry, budget=budget, check=check
        )

    async def acomplete(
        self,
        prompt: Prompt,
        *,
        model: str | Sequence[str] | None = None,
        response_model: type[Any] | None = None,
        tools: Sequence[Any] | None = None,
        use_cache: bool = True,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        priority: int = 0,
        **params: Any,
    ) -> Response[Any]:
        """Like `complete`, for asyncio."""
        request = request_for(prompt, params, tools=tools, use_cache=use_cache, priority=priority)
        check, request = _check_for(response_model, request)
        return await self.dispatcher.arun(
            request, model=model, deadline=deadline, retry=retry, budget=budget, check=check
        )

    def stream(
        self,
        prompt: Prompt,
        *,
        model: str | Sequence[str] | None = None,
        tools: Sequence[Any] | None = None,
        use_cache: bool = True,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        priority: int = 0,
        response_model: type[Any] | None = None,
        on_interrupt: OnInterrupt = "raise",
        **params: Any,
    ) -> Stream:
        """A stream of text; nothing is sent before the first event is asked for.

        Up to the first content every retry and fallback is made. When the stream breaks after it,
        `on_interrupt` decides: ``"raise"`` a `StreamInterruptedError` with `.partial`;
        ``"restart"`` at the next model after a `Restart` event (read `.events()`); ``"continue"``
        at the next model that supports prefill.

        With `response_model` the text is its JSON, `.partials()` yields instances that fill up, and
        the complete answer is validated at the end: it becomes ``.response.parsed``, or a
        `StructuredOutputError` is raised. Such a request is not asked again, and the response cache
        neither answers it nor keeps its answer.
        """
        request = request_for(
            prompt,
            params,
            tools=tools,
            use_cache=use_cache and response_model is None,
            stream=True,
            priority=priority,
        )
        check, request = _check_for(response_model, request)
        return self.dispatcher.stream(
            request,
            model=model,
            on_interrupt=on_interrupt,
            deadline=deadline,
            retry=retry,
            budget=budget,
            check=check,
            partial_builder=None if check is None else check.partial_builder(),
        )

    def astream(
        self,
        prompt: Prompt,
        *,
        model: str | Sequence[str] | None = None,
        tools: Sequence[Any] | None = None,
        use_cache: bool = True,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        priority: int = 0,
        response_model: type[Any] | None = None,
        on_interrupt: OnInterrupt = "raise",
        **params: Any,
    ) -> AsyncStream:
        """Like `stream`, for ``async for`` and ``async with``; itself not a coroutine."""
        request = request_for(
            prompt,
            params,
            tools=tools,
            use_cache=use_cache and response_model is None,
            stream=True,
            priority=priority,
        )
        check, request = _check_for(response_model, request)
        return self.dispatcher.astream(
            request,
            model=model,
            on_interrupt=on_interrupt,
            deadline=deadline,
            retry=retry,
            budget=budget,
            check=check,
            partial_builder=None if check is None else check.partial_builder(),
        )

    def batch(
        self,
        requests: Iterable[Item],
        *,
        max_concurrency: int = 8,
        on_progress: Progress | None = None,
    ) -> BatchResult:
        """Complete many requests, at most `max_concurrency` at once; failures do not stop it.

        Each request is a prompt, a list of messages, or a dict of `complete`'s arguments.
        `on_progress` is called with (finished, total).
        """
        return run_batch(
            self.complete, requests, max_concurrency=max_concurrency, on_progress=on_progress
        )

    async def abatch(
        self,
        requests: Iterable[Item],
        *,
        max_concurrency: int = 8,
        on_progress: Progress | None = None,
    ) -> BatchResult:
        """Like `batch`, for asyncio."""
        return await arun_batch(
            self.acomplete, requests, max_concurrency=max_concurrency, on_progress=on_progress
        )

    def get_client(self, provider: str | None = None) -> LLMClient:
        """An async client of one provider: its registered name, or every model of that provider.

        Without `provider` the client asks the active model and the fallback chain.

        Raises:
            ConfigurationError: no model is registered. UnknownModelError: none of `provider`.
        """
        if provider is None:
            self.registry.route(None)
            return LLMClient(self, None, self.registry.active or "default")
        wanted = str(provider)
        targets = self.registry.targets
        names = [name for name, each in targets.items() if each.provider == wanted]
        if wanted in targets or not names:
            names = [self.registry.get(wanted).name]
        return LLMClient(self, tuple(names), wanted)

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
                key comes from the environment or the pool. The manager closes the connections of
                models that are registered by text; closing an object is up to you. A function whose
                first parameter is named ``messages`` gets the list of messages.
            metadata: kept as it is. Read are ``provider``, ``context_window`` (tokens),
                ``version`` (names the callable's behaviour for the response cache) and
                ``cost_per_1k_tokens`` (USD).
            retry: instead of the manager's default.
            breaker: instead of the manager's default; may be a shared `CircuitBreaker`, or False
                for none.
            timeout: seconds for one attempt; of a stream, between two events. A sync callable with
                a timeout runs on a worker thread, and is abandoned when the time is up.
            first_token_timeout: seconds to the first content of a stream.
            retry_on: exception types that count as failure and are retried, or a function
                ``f(exc)`` that returns True (failure, retry), False (neutral, next model) or None.
            max_concurrency: how many calls of this model may run at once.
            limits: requests and tokens per minute; calls queue for them.
            pool: several API keys, each with its own limits and health.
            replace: allow that `name` is registered already.

        Raises:
            ConfigurationError: a bad value, a taken name, not callable, wrong parameters.
        """
        target = build_target(
            name,
            inference_fn,
            metadata,
            self._defaults,
            clock=self._now,
            changed=self._observer.breaker_changed,
            retry=retry,
            breaker=breaker,
            timeout=timeout,
            first_token_timeout=first_token_timeout,
            retry_on=retry_on,
            max_concurrency=max_concurrency,
            limits=limits,
            pool=pool,
        )
        self.registry.register(target, replace=replace)

    def unregister_model(self, name: str) -> None:
        """Forget a model. Raises `UnknownModelError`."""
        self.registry.unregister(name)
        self._recorder.forget(name)

    def set_active_model(self, name: str) -> None:
        """The model that is asked first. Raises `UnknownModelError`."""
        self.registry.set_active(name)

    def set_fallback_chain(self, names: Sequence[str]) -> None:
        """The models asked after the active one, in order; alone it is the whole route.

        A name that is not registered is warned about once and skipped, unless `strict`.
        """
        self.registry.set_chain(names)

    def list_models(self) -> list[str]:
        """Registered names, in registration order."""
        return list(self.registry.targets)

    @property
    def closed(self) -> bool:
        """Whether `close` was called: a closed manager answers no more."""
        return self.dispatcher.closed

    def get_metrics(self) -> dict[str, Any]:
        """Totals of this manager since it was made; rates are fractions from 0 to 1.

        `stuck_calls` counts worker threads still held by calls that outlived their timeout.
        """
        return {
            **self._recorder.metrics(),
            "active_model": self.registry.active,
            "fallback_chain": list(self.registry.chain),
            "stuck_calls": self.dispatcher.stuck_calls,
        }

    def get_model_info(self, name: str) -> dict[str, Any]:
        """A model's metadata, statistics (seconds, counted by attempt) and breaker state.

        Raises:
            UnknownModelError: it is not registered.
        """
        target = self.registry.get(name)
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
        targets = self.registry.targets
        by_provider: dict[str, list[str]] = {}
        for name, target in targets.items():
            by_provider.setdefault(target.provider, []).append(name)
        return {
            "name": self.name,
            "closed": self.closed,
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
                name: pool_status(target.pool, self._now())
                for name, target in targets.items()
                if target.pool is not None
            },
            "response_cache": None if self._cache is None else self._cache.statistics(),
        }

    def health(self, name: str) -> Health:
        """How `name` did lately: success rate and latency. Raises `UnknownModelError`."""
        self.registry.get(name)
        return self._recorder.health(name)

    def clear_cache(self) -> None:
        """Empty the response cache of this manager's namespace, in memory and on disk."""
        if self._cache is not None:
            self._cache.clear()

    def reset_circuit_breaker(self, name: str) -> None:
        """Close a model's breaker by hand and forget its rest. Raises `UnknownModelError`."""
        target = self.registry.get(name)
        target.rate_limited_until = -1.0
        if target.breaker is not None:
            target.breaker.reset()

    def close(self) -> list[str]:
        """End every thread and task this manager started; what was still under way, by label.

        Sync calls in other threads cannot be ended; they finish on their own. Closing twice does
        nothing; a closed manager answers no more.
        """
        if self.closed:
            return []
        cut = self.dispatcher.close()
        self.registry.close()
        if self._cache is not None:
            self._cache.close()
        if cut:
            log.warning("closed manager %s with %d calls under way", self.name, len(cut))
        return cut

    async def aclose(self) -> list[str]:
        """Like `close`, for asyncio, without blocking the loop."""
        import asyncio

        if not self.closed:
            await self.registry.aclose()
        return await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        models = ", ".join(self.registry.targets) or "no models"
        return f"<LLMManager {self.name}: {models}; active {self.registry.active}>"


def _check_for(
    response_model: type[Any] | None, request: Request
) -> tuple[TypeCheck | None, Request]:
    return (None, request) if response_model is None else check_for(response_model, request)
