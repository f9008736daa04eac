"""The manager: ask registered models so that what can be survived is survived."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

from agentkit.engine.attempt import complete as passed
from agentkit.engine.call import Call
from agentkit.engine.drivers.streams import AsyncStream, Stream
from agentkit.engine.drivers.sync import run
from agentkit.engine.effects import Flow
from agentkit.engine.flow import answer, request_flow
from agentkit.engine.stream import narrate
from agentkit.errors import ConfigurationError
from agentkit.manager.batch import BatchResult, Item, Progress, arun_batch, run_batch
from agentkit.manager.client import LLMClient
from agentkit.manager.models import ManagedModels
from agentkit.manager.requests import Prompt, request_for
from agentkit.output.validation import TypeCheck, check_for
from agentkit.policy.budget import Budget
from agentkit.policy.deadline import Deadline
from agentkit.policy.retry import RetryPolicy
from agentkit.policy.route import Route
from agentkit.types import OnInterrupt, Request, Response

_INTERRUPTS = ("raise", "restart", "continue")


class LLMManager(ManagedModels):
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
        budget: most tokens or money of all calls together; what does not fit is not sent.
        fallback_on_invalid: ask a model of another provider when one refuses the request itself.
        fallback_on_content_filter: ask the next model when one refuses by policy.
        clock: seconds that never go back, for tests (default `time.monotonic`).
        rng: uniform [0, 1) for jitter, for tests (default `random.random`).
        max_workers: most worker threads for blocking calls that must not block (default 128).
        strict: unknown names in a fallback chain raise instead of warning.

    Raises:
        ConfigurationError: a value cannot work; the message names it and the remedy.
    """

    def generate(self, prompt: str, use_cache: bool = True, **kwargs: Any) -> str:
        """The text of the first model that answers; `kwargs` reach it as they are.

        Raises:
            LLMError: no answer; `.ledger` tells every attempt.
        """
        call = self._call(request_for(prompt, kwargs, use_cache=use_cache), blocking=True)
        return run(request_flow(call, self._middleware, answer), self._runtime).text

    async def agenerate(self, prompt: str, use_cache: bool = True, **kwargs: Any) -> str:
        """Like `generate`, for asyncio."""
        from agentkit.engine.drivers.asyncio import arun

        call = self._call(request_for(prompt, kwargs, use_cache=use_cache), blocking=False)
        return (await arun(request_flow(call, self._middleware, answer), self._runtime)).text

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
        """A whole `Response`: text, usage, which model answered, and the ledger.

        Args:
            prompt: text, or a list of messages.
            model: ask just this model (or these, in order) instead of the active one and chain.
            response_model: a pydantic model or any type pydantic can validate; the answer's JSON
                is validated into `Response.parsed`, and violations go back to the model.
            tools: asked of models that can use them; others are skipped.
            use_cache: False neither reads nor writes the response cache.
            deadline: seconds for this request (default: the manager's).
            retry: for this request in place of each model's own policy.
            budget: most tokens or money of this request, beside the manager's.
            priority: who waits for quota with a higher one goes first (default 0; a step is
                worth ten seconds of waiting, so that nobody starves).
            params: the model's own options.

        Raises:
            LLMError: no answer; `.ledger` tells every attempt.
        """
        request = request_for(prompt, params, tools=tools, use_cache=use_cache, priority=priority)
        check, request = _checked(response_model, request)
        call = self._call(request, model, deadline, check, retry, budget, blocking=True)
        return run(request_flow(call, self._middleware, answer), self._runtime)

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
        from agentkit.engine.drivers.asyncio import arun

        request = request_for(prompt, params, tools=tools, use_cache=use_cache, priority=priority)
        check, request = _checked(response_model, request)
        call = self._call(request, model, deadline, check, retry, budget, blocking=False)
        return await arun(request_flow(call, self._middleware, answer), self._runtime)

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

        With `response_model` the text is its JSON, `.partials()` gives instances that grow, and
        the whole answer is validated at its end: `StructuredOutputError`, or ``.response.parsed``.
        What was shown cannot be asked again; the response cache neither answers such a request
        nor keeps its answer.
        """
        request = request_for(
            prompt, params, tools=tools, use_cache=use_cache and response_model is None,
            stream=True, priority=priority,
        )  # fmt: skip
        check, request = _checked(response_model, request)
        flow = self._told(
            request, model, deadline, on_interrupt, retry, budget, check, blocking=True
        )
        growth = None if check is None else check.growth()
        return Stream(flow, self._runtime, text=on_interrupt != "restart", growth=growth)

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
            prompt, params, tools=tools, use_cache=use_cache and response_model is None,
            stream=True, priority=priority,
        )  # fmt: skip
        check, request = _checked(response_model, request)
        flow = self._told(
            request, model, deadline, on_interrupt, retry, budget, check, blocking=False
        )
        growth = None if check is None else check.growth()
        return AsyncStream(flow, self._runtime, text=on_interrupt != "restart", growth=growth)

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
            self._registry.route(None)
            return LLMClient(self, None, self._registry.active or "default")
        wanted = str(provider)
        targets = self._registry.targets
        names = [name for name, each in targets.items() if each.provider == wanted]
        if wanted in targets or not names:
            names = [self._registry.get(wanted).name]
        return LLMClient(self, tuple(names), wanted)

    def _told(
        self,
        request: Request,
        model: str | Sequence[str] | Route | None,
        deadline: float | None,
        on_interrupt: str,
        retry: RetryPolicy | None,
        budget: Budget | None,
        check: TypeCheck | None,
        *,
        blocking: bool,
    ) -> Flow[Response[Any]]:
        """A stream's flow: what was asked is checked now, the request begins at the first read."""
        walk = narrate(_interrupt(on_interrupt))
        self._route(model)
        Deadline(self._deadline if deadline is None else deadline, 0.0)

        def checked(call: Call) -> Flow[Response[Any]]:
            return passed(call, (yield from walk(call)))

        def told() -> Flow[Response[Any]]:
            call = self._call(request, model, deadline, check, retry, budget, blocking=blocking)
            return (yield from request_flow(call, self._middleware, checked))

        return told()

    def _route(self, model: str | Sequence[str] | Route | None) -> Route:
        return model if isinstance(model, Route) else self._registry.route(model)

    def _call(
        self,
        request: Request,
        model: str | Sequence[str] | Route | None = None,
        deadline: float | None = None,
        check: TypeCheck | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        *,
        blocking: bool,
    ) -> Call:
        if self._closed:
            raise ConfigurationError(f"manager {self.name!r} is closed", hint="make a new one")
        route = self._route(model)
        if self._route_order is not None:
            stops = self._route_order(route.stops, self._recorder.health)
            route = Route(tuple(stops), route.order, route.max_attempts)
        return Call(
            self._rules, route, request,
            deadline=self._deadline if deadline is None else deadline,
            thread=threading.get_ident(), blocking=blocking, check=check, retry=retry,
            budget=budget,
        )  # fmt: skip


def _checked(
    response_model: type[Any] | None, request: Request
) -> tuple[TypeCheck | None, Request]:
    return (None, request) if response_model is None else check_for(response_model, request)


def _interrupt(on_interrupt: str) -> OnInterrupt:
    if on_interrupt not in _INTERRUPTS:
        raise ConfigurationError(
            f"on_interrupt is {on_interrupt!r}", hint=f"use one of {', '.join(_INTERRUPTS)}"
        )
    return on_interrupt  # type: ignore[return-value]
