"""`LLMManager`: registered models, and every policy of the engine around them."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

from agentkit.engine.call import Rules
from agentkit.engine.drivers.clock import as_clock
from agentkit.engine.drivers.runtime import Runtime
from agentkit.engine.drivers.streams import AsyncStream, Stream
from agentkit.engine.middleware import split
from agentkit.errors import LLMError
from agentkit.manager.batch import BatchResult, Item, Progress, arun_batch, run_batch
from agentkit.manager.client import LLMClient
from agentkit.manager.configured import options_of, register_providers
from agentkit.manager.connections import aopen_connections, open_connections
from agentkit.manager.dispatcher import Dispatcher, check_policies
from agentkit.manager.fleet import FleetMember
from agentkit.manager.keys import ConnectionPool
from agentkit.manager.registry import ModelRegistry
from agentkit.manager.requests import Prompt, answer_of, check_or_none, merge_params, request_for
from agentkit.manager.status import breakdown, model_info, pools
from agentkit.manager.targets import build_cache, build_target, defaults_of
from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker
from agentkit.policy.budget import Budget
from agentkit.policy.classification import RetryOn
from agentkit.policy.health import RouteOrder
from agentkit.policy.limits import OnLoss, RateLimits
from agentkit.policy.price import price_list
from agentkit.policy.retry import RetryPolicy
from agentkit.policy.validation import checked_keywords
from agentkit.providers.requirements import TransportName
from agentkit.providers.transport.options import ConnectionOptions
from agentkit.telemetry.capture import forbids_content
from agentkit.telemetry.otel import Telemetry
from agentkit.telemetry.recorder import Health, Recorder
from agentkit.types import Clock, Now, OnInterrupt, Response, Store
from agentkit.types.context import AsyncClosing, Closing
from agentkit.types.response import ResponseModel, T

if TYPE_CHECKING:
    from agentkit.config.schema import Settings

log = logging.getLogger("agentkit.manager")


@checked_keywords(timeout="deadline", cache_enabled="enable_caching", max_attempts="max_retries")
class LLMManager(Closing, AsyncClosing):
    """Calls registered models with retries, circuit breakers, fallbacks and a response cache.

    Each method ``x`` that sends requests has an async version ``ax`` with the same signature. Both
    share the breakers, limits and response cache. Safe to use from many threads and event loops.

    Args:
        max_retries: the most attempts at each model, including the first (default 3; 1: no
            retries). In `agentkit.bedrock`, the same name counts only the retries.
        enable_caching: whether the response cache is on (default True).
        name: the name of this manager in telemetry, and of its threads.
        retry: the default `RetryPolicy` of models, instead of `max_retries`.
        breaker: the default `BreakerPolicy` of models; False: no breakers.
        cache: where the response cache keeps responses: ``"disk"`` (memory and disk, the default),
            ``"memory"``, a `Store` (memory and this store), or None (off).
        cache_dir: the directory of the response cache (default ``AGENTKIT_CACHE_DIR``, or else the
            user's cache directory).
        cache_ttl: seconds for which a cached response is valid (default 3600).
        cache_namespace: separates the cached responses of this manager from others;
            `clear_cache` clears this namespace only.
        fleet: the URL of a Valkey or Redis server through which processes share their calls,
            cached responses, limits, budgets and circuit breakers, such as
            ``valkey://host:6379/0``; ``"off"``: none (default ``AGENTKIT_FLEET``, or else off).
            Needs the extra ``fleet``.
        on_fleet_loss: what happens to rate limits while that server is lost. ``"share"`` (default):
            each process may take an equal share of what was left; ``"stop"``: calls go to the next
            model, or raise `PoolExhaustedError`; ``"open"``: each process may take all of it.
        deadline: seconds for a request, its retries and fallbacks (default 300; None: no limit).
        middleware: generator functions around each request or attempt, outermost first.
        telemetry: a `Telemetry` (default: spans and metrics through the OpenTelemetry API).
        route_order: orders the models of each request by their health, such as `HealthAware()`.
        budget: a limit on the tokens or money of all requests together. A request that may exceed
            it is not sent.
        prices: what models cost, by the provider's own names: each a `Price`, or a mapping of
            ``cost_per_1k_input_tokens``, ``cost_per_1k_output_tokens``,
            ``cost_per_1k_cache_read_tokens`` and ``cost_per_1k_cache_write_tokens`` in US dollars.
            A price in a model's metadata takes precedence.
        fallback_on_invalid: whether to try a model of another provider if one rejects the request
            as invalid (default False).
        fallback_on_content_filter: whether to try the next model if a content filter rejects the
            request (default False).
        clock: for tests, a `FakeClock` or a function of the seconds (default `time.monotonic`).
        rng: for tests, a function that returns the random numbers for jitter (default
            `random.random`).
        max_workers: the most worker threads for sync callables (default 128); one model gets at
            most three quarters of them.
        strict: an unknown name in a fallback chain is an error, not a warning (default False).

    Raises:
        ConfigurationError: a value is invalid. The message names it, and how to fix it.
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
        fleet: str | None = None,
        on_fleet_loss: OnLoss = "share",
        deadline: float | None = 300.0,
        middleware: Sequence[Any] = (),
        telemetry: Telemetry | None = None,
        route_order: RouteOrder | None = None,
        fallback_on_invalid: bool = False,
        fallback_on_content_filter: bool = False,
        budget: Budget | None = None,
        prices: Mapping[str, Any] | None = None,
        clock: Clock | Now | None = None,
        rng: Callable[[], float] | None = None,
        max_workers: int = 128,
        strict: bool = False,
    ) -> None:
        self.name = name
        check_policies(None, budget)
        waiting = as_clock(clock)
        self._now = waiting.now
        self._prices = price_list(prices)
        self._defaults = defaults_of(max_retries, retry, breaker, middleware)
        self.registry = ModelRegistry(strict=strict)
        """The models, the active one, the fallback chain, and the routes they form."""
        self._recorder = Recorder(clock=self._now)
        self._cache, key = build_cache(
            cache if enable_caching else None,
            directory=cache_dir,
            ttl=cache_ttl,
            namespace=cache_namespace,
            clock=None if clock is None else self._now,
        )
        self._fleet = FleetMember(
            fleet, name=name, cache=self._cache, now=self._now, on_loss=on_fleet_loss
        )
        self.telemetry = telemetry or Telemetry()
        self._with_text = not forbids_content(self.telemetry.content)
        self._observer = self.telemetry.observer(
            name, self._recorder, self.registry.breaker_states, self._fleet.connection
        )
        of_requests, of_attempts = split(middleware)
        fleet_store = self._fleet.fleet
        runtime = Runtime(
            name, clock=waiting, cache=self._cache, max_workers=max_workers, fleet=fleet_store
        )
        rules = Rules(
            observer=self._observer,
            shared_calls=runtime.shared_calls,
            now=self._now,
            rng=rng or random.random,
            key=key,
            caching=self._cache is not None,
            shared_responses=self._fleet.responses,
            fallback_on_invalid=fallback_on_invalid,
            fallback_on_content_filter=fallback_on_content_filter,
            attempt_middleware=of_attempts,
            budget=budget,
            shared_budgets=self._fleet.budgets,
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
        """Sends the requests of every other method."""

    @classmethod
    def from_config(
        cls, config: str | os.PathLike[str] | Settings | None = None, **options: Any
    ) -> Self:
        """Return a new manager with the models of a configuration file or of the environment.

        Args:
            config: a path or `Settings`. By default the file named by ``AGENTKIT_CONFIG``,
                ``config/llm.yaml``, or else the API keys in the environment.
            options: arguments of the constructor, which take precedence over the configuration.

        The response cache is off unless the file sets ``response_cache``. In async code,
        `get_llm_manager` returns one such manager per event loop, and applies changes of the file.

        Raises:
            ConfigurationError: nothing is configured, or a value is wrong. The message contains no
                key.
        """
        from agentkit.config.load import load_settings  # pydantic takes a while to import
        from agentkit.config.schema import Settings

        settings = config if isinstance(config, Settings) else load_settings(config)
        manager = cls(**{**options_of(settings), **options})
        register_providers(manager, settings)
        return manager

    @overload
    def generate(
        self,
        prompt: Prompt,
        use_cache: bool = True,
        *,
        model: str | Sequence[str] | None = None,
        response_model: ResponseModel[T],
        tools: Sequence[Any] | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        priority: int = 0,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> T: ...
    @overload
    def generate(
        self,
        prompt: Prompt,
        use_cache: bool = True,
        *,
        model: str | Sequence[str] | None = None,
        response_model: None = None,
        tools: Sequence[Any] | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        priority: int = 0,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str: ...
    def generate(
        self,
        prompt: Prompt,
        use_cache: bool = True,
        *,
        model: str | Sequence[str] | None = None,
        response_model: ResponseModel[Any] | None = None,
        tools: Sequence[Any] | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        priority: int = 0,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Return the text of the response, or with a `response_model`, the validated instance.

        Takes the arguments of `complete`, which returns the complete `Response`.

        Raises:
            LLMError: no model answered. `.ledger` lists every attempt.
            InvalidResponseError: the model called tools instead of answering; use `complete`.
        """
        request = request_for(
            prompt,
            merge_params(params, options),
            tools=tools,
            use_cache=use_cache,
            priority=priority,
        )
        check, request = check_or_none(response_model, request)
        response = self.dispatcher.run(
            request, model=model, deadline=deadline, retry=retry, budget=budget, check=check
        )
        return answer_of(response, validated=check is not None)

    @overload
    async def agenerate(
        self,
        prompt: Prompt,
        use_cache: bool = True,
        *,
        model: str | Sequence[str] | None = None,
        response_model: ResponseModel[T],
        tools: Sequence[Any] | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        priority: int = 0,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> T: ...
    @overload
    async def agenerate(
        self,
        prompt: Prompt,
        use_cache: bool = True,
        *,
        model: str | Sequence[str] | None = None,
        response_model: None = None,
        tools: Sequence[Any] | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        priority: int = 0,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str: ...
    async def agenerate(
        self,
        prompt: Prompt,
        use_cache: bool = True,
        *,
        model: str | Sequence[str] | None = None,
        response_model: ResponseModel[Any] | None = None,
        tools: Sequence[Any] | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        priority: int = 0,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Like `generate`, for asyncio."""
        request = request_for(
            prompt,
            merge_params(params, options),
            tools=tools,
            use_cache=use_cache,
            priority=priority,
        )
        check, request = check_or_none(response_model, request)
        response = await self.dispatcher.arun(
            request, model=model, deadline=deadline, retry=retry, budget=budget, check=check
        )
        return answer_of(response, validated=check is not None)

    def complete(
        self,
        prompt: Prompt,
        *,
        model: str | Sequence[str] | None = None,
        response_model: ResponseModel[T] | None = None,
        tools: Sequence[Any] | None = None,
        use_cache: bool = True,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        priority: int = 0,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Response[T]:
        """Return the complete `Response`: text, usage, the model that answered, and the ledger.

        Args:
            prompt: a string, or a list of messages.
            model: send to this model, or to these in order, instead of the active model and the
                fallback chain.
            response_model: a pydantic model, or any type that pydantic can validate.
                `Response.parsed` is a validated instance of it. If an answer does not match, the
                model is asked again, with a list of the violations.
            tools: the tools that the model may call. Models that cannot call tools are skipped.
            use_cache: whether to read and write the response cache (default True).
            deadline: time limit of this request in seconds (default: the manager's).
            retry: the retry policy of this request, instead of each model's own.
            budget: a limit on the tokens or money of this request, in addition to the manager's.
            priority: requests with a higher priority get quota first (default 0). One step counts
                as ten seconds of waiting, so that every request is served in the end.
            options: the model's own parameters, such as `temperature`.
            params: parameters of the model that have the name of an argument above, such as
                ``params={"model": …}`` for a function that takes a ``model``.

        Raises:
            LLMError: no model answered. `.ledger` lists every attempt.
        """
        request = request_for(
            prompt,
            merge_params(params, options),
            tools=tools,
            use_cache=use_cache,
            priority=priority,
        )
        check, request = check_or_none(response_model, request)
        return self.dispatcher.run(
            request, model=model, deadline=deadline, retry=retry, budget=budget, check=check
        )

    async def acomplete(
        self,
        prompt: Prompt,
        *,
        model: str | Sequence[str] | None = None,
        response_model: ResponseModel[T] | None = None,
        tools: Sequence[Any] | None = None,
        use_cache: bool = True,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        priority: int = 0,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Response[T]:
        """Like `complete`, for asyncio."""
        request = request_for(
            prompt,
            merge_params(params, options),
            tools=tools,
            use_cache=use_cache,
            priority=priority,
        )
        check, request = check_or_none(response_model, request)
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
        response_model: ResponseModel[T] | None = None,
        on_interrupt: OnInterrupt = "raise",
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Stream[T]:
        """Return a stream of the response's text. The request is sent when you begin to read.

        Until the first content, retries and fallbacks work as in `complete`. If the stream breaks
        later, `on_interrupt` decides:

        - ``"raise"`` (default) raises a `StreamInterruptedError` with the text so far as
          `.partial`.
        - ``"restart"`` yields a `Restart` event and starts again with the next model; read
          `.events()`.
        - ``"continue"`` continues the text with the next model that supports prefill.

        With a `response_model`, the text is JSON, and `.partials()` yields instances as they fill
        up. The complete response is validated at the end: ``.response.parsed`` is the instance, or
        a `StructuredOutputError` is raised. Such a request is not repeated, and does not use the
        response cache.

        The other arguments are those of `complete`.
        """
        request = request_for(
            prompt,
            merge_params(params, options),
            tools=tools,
            use_cache=use_cache and response_model is None,
            stream=True,
            priority=priority,
        )
        check, request = check_or_none(response_model, request)
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
        response_model: ResponseModel[T] | None = None,
        on_interrupt: OnInterrupt = "raise",
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncStream[T]:
        """Like `stream`, for ``async for`` and ``async with``. It is not a coroutine itself."""
        request = request_for(
            prompt,
            merge_params(params, options),
            tools=tools,
            use_cache=use_cache and response_model is None,
            stream=True,
            priority=priority,
        )
        check, request = check_or_none(response_model, request)
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
        """Complete many requests, at most `max_concurrency` at a time; the results are in order.

        Each request is a prompt, a list of messages, or a dict with arguments of `complete`. A
        failed request does not stop the others. `on_progress` is called with the number of finished
        requests and the number of all requests.
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
        """Return an async client of the model called `provider`, or of that provider's models.

        Without `provider` the client uses the active model and the fallback chain.

        Raises:
            ConfigurationError: no model is registered.
            UnknownModelError: no model has this name or provider.
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
        params: Mapping[str, Any] | None = None,
        transport: TransportName | None = None,
        connections: ConnectionOptions | None = None,
        replace: bool = False,
    ) -> None:
        """Register a model under `name`.

        Args:
            name: the name of the model in this manager.
            inference_fn: one of these:

                - a string such as ``"openai:<model>"``; its API key comes from the environment or
                  the pool
                - a function ``f(prompt, kwargs)``, sync or async, that returns text, or a generator
                  function that yields text as a stream. If the first parameter is named
                  ``messages``, it receives the list of messages.
                - a `Provider` object

                The manager closes the connections of models that are registered by a string. You
                close the provider objects that you create.
            metadata: facts about the model, which `get_model_info` returns. The manager uses
                ``provider``; ``model``, the provider's own name of the model that a callable
                calls; ``context_window`` (tokens); ``cost_per_1k_tokens`` and the other prices of
                `Budget` (USD); and ``version`` (identifies the behaviour of a callable in the
                response cache).
            retry: the retry policy, instead of the manager's default.
            breaker: the breaker policy, instead of the manager's default; or a shared
                `CircuitBreaker`; or False for no breaker.
            timeout: time limit of an attempt in seconds; for a stream, of the time between two
                events (default: none, but at most 60 while another model is left). A sync callable
                with a timeout runs on a worker thread, which is abandoned when the time is up.
            first_token_timeout: time limit for the first content of a stream, in seconds.
            retry_on: exception types that count as a failure and are retried, or a function
                ``f(exc)`` that returns True (a failure, retried), False (not a failure; the next
                model is tried), or None (use the default rules).
            max_concurrency: the most calls of this model at the same time.
            limits: requests and tokens per minute. Calls wait until they fit.
            pool: several API keys, each with its own limits and health.
            params: parameters of every request to this model, such as ``{"top_p": 0.9}``. They
                replace the caller's; None removes the caller's. They are sent even if the provider
                does not know them, or expects the model to reject them.
            transport: of a model that is registered by a string: ``"sdk"``, the vendor's SDK, or
                ``"native"``, agentkit's own HTTP client (default ``AGENTKIT_TRANSPORT``, or sdk).
            connections: `ConnectionOptions` of the native transport.
            replace: whether to replace a registered model of the same name.

        Raises:
            ConfigurationError: a value is invalid, the name is taken, or `inference_fn` is not
                callable or has the wrong parameters.
        """
        target = build_target(
            name,
            inference_fn,
            metadata,
            self._defaults,
            clock=self._now,
            changed=self._observer.breaker_changed,
            prices=self._prices,
            with_text=self._with_text,
            fleet=self._fleet,
            retry=retry,
            breaker=breaker,
            timeout=timeout,
            first_token_timeout=first_token_timeout,
            retry_on=retry_on,
            max_concurrency=max_concurrency,
            limits=limits,
            pool=pool,
            params=params,
            transport=transport,
            connections=connections,
        )
        self.registry.register(target, replace=replace)

    def warm_up(
        self, model: str | Sequence[str] | None = None, *, connections: int = 1
    ) -> dict[str, LLMError]:
        """Open connections of the native transport, so that the first calls do not wait for them.

        No request is sent. With the transport ``"sdk"``, the SDK is imported; it connects with its
        first request.

        Args:
            model: the names of the models (default: all).
            connections: the number of idle connections to have for each key of a model, at most
                as many as its `ConnectionOptions` keep, and for as long.

        Returns:
            The failures, by model. They count neither as attempts nor for circuit breakers.

        Raises:
            UnknownModelError: a model is not registered.
            ConfigurationError: `connections` is less than 1, or the manager is closed.
        """
        self.dispatcher.check_open()
        return open_connections(self.registry.named(model), connections, self._now)

    async def awarm_up(
        self, model: str | Sequence[str] | None = None, *, connections: int = 1
    ) -> dict[str, LLMError]:
        """Like `warm_up`, for calls in the running event loop."""
        self.dispatcher.check_open()
        return await aopen_connections(self.registry.named(model), connections, self._now)

    def set_prices(self, prices: Mapping[str, Any]) -> None:
        """Replace the `prices` of the manager, for models that are registered from now on.

        Raises:
            ConfigurationError: a value is not a price.
        """
        self._prices = price_list(prices)

    def unregister_model(self, name: str) -> None:
        """Remove a model. Raises `UnknownModelError`."""
        self.registry.unregister(name)
        self._recorder.forget(name)

    def set_active_model(self, name: str) -> None:
        """Make `name` the first model of every request. Raises `UnknownModelError`."""
        self.registry.set_active(name)

    def set_fallback_chain(self, names: Sequence[str]) -> None:
        """Set the models to try after the active one, in order.

        Without an active model, the chain is the entire route. A name that is not registered is
        skipped until it is registered, with a `UserWarning` that suggests a similar name, or an
        `UnknownModelError` if the manager is `strict`.
        """
        self.registry.set_chain(names, stacklevel=3)

    def list_models(self) -> list[str]:
        """The names of the registered models, in order of registration."""
        return list(self.registry.targets)

    @property
    def closed(self) -> bool:
        """Whether `close` was called. A closed manager sends nothing."""
        return self.dispatcher.closed

    def get_metrics(self) -> dict[str, Any]:
        """The totals of this manager since its creation. Rates are fractions from 0 to 1.

        ``stuck_calls`` is the number of worker threads occupied by calls that have exceeded their
        time limit.
        """
        return {
            **self._recorder.metrics(),
            "active_model": self.registry.active,
            "fallback_chain": list(self.registry.chain),
            "stuck_calls": self.dispatcher.stuck_calls,
        }

    def get_model_info(self, name: str) -> dict[str, Any]:
        """The metadata, the statistics (by attempt, in seconds) and the breaker state of a model.

        Raises:
            UnknownModelError: the model is not registered.
        """
        return model_info(self.registry.get(name), self._recorder)

    def get_status(self) -> dict[str, Any]:
        """The state of the manager: metrics, models, key pools, the response cache, and the fleet.

        ``["metrics"]`` has the keys of `get_metrics`, a breakdown by model and error (``tokens``,
        ``latency``, ``errors_by_type``, ``requests_by_model``, ``tokens_by_model``), and under
        ``providers`` the same breakdown for each provider. ``["fleet"]`` is None without a fleet,
        or else has ``state`` (``up`` if the store answers), ``process``, ``processes`` (live ones),
        ``questions``, ``alone`` (questions without a reply), ``faults``, ``leads``, ``circuits``
        (by model: ``state``, ``retry_after`` in seconds, ``reported_by``) and ``limits`` (by
        model).
        """
        targets = self.registry.targets
        return {
            "name": self.name,
            "closed": self.closed,
            "metrics": {**self.get_metrics(), **breakdown(targets, self._recorder)},
            "models": {name: self.get_model_info(name) for name in targets},
            "pools": pools(targets, self._now()),
            "response_cache": None if self._cache is None else self._cache.statistics(),
            "fleet": self._fleet.statistics(targets),
        }

    def health(self, name: str) -> Health:
        """The recent success rate and latency of a model. Raises `UnknownModelError`."""
        self.registry.get(name)
        return self._recorder.health(name)

    def clear_cache(self) -> None:
        """Delete the cached responses of this manager's namespace, in memory and in the store.

        Responses in the store of a fleet are deleted in the background. This manager stops using
        them immediately; other processes may use them a moment longer.
        """
        if self._cache is not None:
            self._cache.clear()
        self._fleet.clear_responses()

    def reset_circuit_breaker(self, name: str) -> None:
        """Close a model's breaker, and forget a rate limit. Raises `UnknownModelError`."""
        self.registry.get(name).reset()

    def close(self) -> list[str]:
        """End every thread and task of this manager. Returns the labels of the calls under way.

        Sync calls in other threads cannot be stopped; they finish on their own. Closing twice does
        nothing. A closed manager sends nothing.
        """
        if self.closed:
            return []
        under_way = self.dispatcher.close()
        self.registry.close()
        if self._cache is not None:
            self._cache.close()
        self._fleet.close()
        if under_way:
            log.warning("closed manager %s with %d calls under way", self.name, len(under_way))
        return under_way

    async def aclose(self) -> list[str]:
        """Like `close`, for asyncio; the event loop is not blocked."""
        import asyncio

        if not self.closed:
            await self.registry.aclose()
        return await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        models = ", ".join(self.registry.targets) or "no models"
        return f"<LLMManager {self.name}: {models}; active {self.registry.active}>"
