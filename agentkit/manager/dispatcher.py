"""The dispatcher: the one place from which requests are sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any, get_args

from agentkit.engine.call import Call, Check, Rules
from agentkit.engine.drivers.asyncio import arun, require_asyncio
from agentkit.engine.drivers.runtime import Runtime
from agentkit.engine.drivers.streams import AsyncStream, PartialBuilder, Stream
from agentkit.engine.drivers.sync import run
from agentkit.engine.drivers.tracebacks import shorten
from agentkit.engine.effects import Flow
from agentkit.engine.exchange import COMPLETE, StreamExchange
from agentkit.engine.middleware import MiddlewareFn
from agentkit.engine.request import run_request
from agentkit.errors import ConfigurationError, LLMError
from agentkit.manager.registry import ModelRegistry
from agentkit.policy.budget import Budget
from agentkit.policy.deadline import Deadline
from agentkit.policy.health import Health, RouteOrder
from agentkit.policy.retry import RetryPolicy
from agentkit.policy.route import Route
from agentkit.policy.validation import choice, instance
from agentkit.types import Clock, OnInterrupt, Request, Response


class Dispatcher:
    """Sends requests along the routes of a registry: sync and async, complete and streamed.

    Every policy of the manager applies. `model` is a name, a list of names, a `Route`, or None for
    the active model and the fallback chain.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        runtime: Runtime,
        rules: Rules,
        *,
        name: str,
        deadline: float | None,
        middleware: tuple[MiddlewareFn, ...] = (),
        route_order: RouteOrder | None = None,
        health: Callable[[str], Health],
    ) -> None:
        Deadline(deadline, 0.0)
        self.name = name
        self.closed = False
        """Whether `close` was called. A closed dispatcher sends nothing."""
        self._registry = registry
        self._runtime = runtime
        self._rules = rules
        self._deadline = deadline
        self._middleware = middleware
        self._route_order = route_order
        self._health = health

    def run(
        self,
        request: Request,
        *,
        model: str | Sequence[str] | Route | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        check: Check | None = None,
    ) -> Response[Any]:
        """Send `request` and return the response.

        Args:
            request: the request.
            model: the models to try, in order.
            deadline: time limit of the request in seconds (default: the manager's).
            retry: the retry policy, instead of each model's own.
            budget: a spending budget of this request, beside the manager's.
            check: validates the response. The request is repeated if it rejects one.

        Raises:
            LLMError: no model answered. `.ledger` lists every attempt.
        """
        try:
            call = self._call(  # positional: by keyword, each call takes 0.2 µs longer
                request, model, True, deadline, retry, budget, check
            )
            return run(run_request(call, self._middleware, COMPLETE), self._runtime)
        except LLMError as error:
            shorten(error)
            raise

    async def arun(
        self,
        request: Request,
        *,
        model: str | Sequence[str] | Route | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        check: Check | None = None,
    ) -> Response[Any]:
        """Like `run`, for asyncio."""
        require_asyncio()
        try:
            call = self._call(  # positional: by keyword, each call takes 0.2 µs longer
                request, model, False, deadline, retry, budget, check
            )
            return await arun(run_request(call, self._middleware, COMPLETE), self._runtime)
        except LLMError as error:
            shorten(error)
            raise

    def stream(
        self,
        request: Request,
        *,
        model: str | Sequence[str] | Route | None = None,
        on_interrupt: OnInterrupt = "raise",
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        check: Check | None = None,
        partial_builder: PartialBuilder | None = None,
    ) -> Stream:
        """Return a stream of the response. Nothing is sent before it is read.

        `check` validates the complete response at the end. `partial_builder` builds the instances
        of `Stream.partials`. The other arguments are those of `run`.
        """
        flow = self._stream_flow(
            request,
            model,
            on_interrupt,
            deadline=deadline,
            retry=retry,
            budget=budget,
            check=check,
            sync=True,
        )
        return Stream(
            flow, self._runtime, text=on_interrupt != "restart", partial_builder=partial_builder
        )

    def astream(
        self,
        request: Request,
        *,
        model: str | Sequence[str] | Route | None = None,
        on_interrupt: OnInterrupt = "raise",
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        budget: Budget | None = None,
        check: Check | None = None,
        partial_builder: PartialBuilder | None = None,
    ) -> AsyncStream:
        """Like `stream`, for asyncio. It is not a coroutine itself."""
        flow = self._stream_flow(
            request,
            model,
            on_interrupt,
            deadline=deadline,
            retry=retry,
            budget=budget,
            check=check,
            sync=False,
        )
        return AsyncStream(
            flow, self._runtime, text=on_interrupt != "restart", partial_builder=partial_builder
        )

    @property
    def clock(self) -> Clock:
        """The clock by which its calls wait."""
        return self._runtime.clock

    def route(self, model: str | Sequence[str] | Route | None = None) -> Route:
        """The route of a request for `model`. Raises `UnknownModelError`."""
        return model if isinstance(model, Route) else self._registry.route(model)

    @property
    def stuck_calls(self) -> int:
        """The number of worker threads occupied by calls that outlived their time limit."""
        return self._runtime.workers.stuck

    def check_open(self) -> None:
        """Raises `ConfigurationError` if `close` was called."""
        if self.closed:
            raise self._closed_error()

    def _closed_error(self) -> ConfigurationError:
        return ConfigurationError(f"manager {self.name!r} is closed", hint="create a new one")

    def close(self) -> list[str]:
        """End every thread and task. Returns the labels of the calls under way."""
        if self.closed:
            return []
        self.closed = True
        return self._runtime.close()

    def _stream_flow(
        self,
        request: Request,
        model: str | Sequence[str] | Route | None,
        on_interrupt: OnInterrupt,
        *,
        deadline: float | None,
        **options: Any,
    ) -> Flow[Response[Any]]:
        """Check the arguments now. The request starts when the first event is read."""
        choice("on_interrupt", on_interrupt, get_args(OnInterrupt))
        check_policies(options["retry"], options["budget"])
        self.route(model)
        Deadline(self._deadline if deadline is None else deadline, 0.0)

        def flow() -> Flow[Response[Any]]:
            call = self._call(request, model, deadline=deadline, **options)
            exchange = StreamExchange(on_interrupt)
            return (yield from run_request(call, self._middleware, exchange))

        return flow()

    def _call(
        self,
        request: Request,
        model: str | Sequence[str] | Route | None,
        sync: bool,
        deadline: float | None,
        retry: RetryPolicy | None,
        budget: Budget | None,
        check: Check | None,
    ) -> Call:
        if retry is not None or budget is not None:
            check_policies(retry, budget)
        if self.closed:
            raise self._closed_error()
        route = model if isinstance(model, Route) else self._registry.route(model)
        if self._route_order is not None:
            stops = self._route_order(route.stops, self._health)
            route = Route(tuple(stops), route.order, route.max_attempts)
        return Call(
            self._rules,
            route,
            request,
            deadline=self._deadline if deadline is None else deadline,
            thread=get_ident(),
            blocking=sync,
            check=check,
            retry=retry,
            budget=budget,
        )


def check_policies(retry: object, budget: object) -> None:
    """Check the policies of a call.

    Raises:
        ConfigurationError: one is of another type, such as a number.
    """
    if retry is not None:
        instance("retry", retry, RetryPolicy, hint="pass RetryPolicy(max_attempts=...)")
    if budget is not None:
        instance("budget", budget, Budget, hint="pass Budget(usd=...) or Budget(tokens=...)")
