"""A registered model with its policies and its state, and the ways to call it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from agentkit.errors import LLMError
from agentkit.policy.breaker import CircuitBreaker, Permit
from agentkit.policy.classification import RetryOn
from agentkit.policy.limits import LONGEST_PAUSE, Member, Pool
from agentkit.policy.price import Price
from agentkit.policy.retry import RetryBudget, RetryPolicy
from agentkit.types import Request, Response
from agentkit.types.fleet import Question
from agentkit.types.ledger import Ledger


class CancelScope(Protocol):
    """A sync call, or a stream, that another thread can cancel.

    It is entered around the call, and around each event of a stream.
    """

    def __enter__(self) -> object: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def cancel(self) -> None:
        """End the call soon, by an exception of any kind. Called from any thread."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """The ways to call a target: up to four functions, sync and async, complete and streamed.

    `send` and `asend` return what the model returns. `accept` turns it into a `Response` with the
    given ledger, or raises an `InvalidResponseError`. `translate` turns a foreign exception into an
    error of agentkit. If `end_mark` is true, a stream must finish with an `End` event.
    """

    accept: Callable[[Any, Ledger], Response[Any]]
    translate: Callable[[Exception], LLMError]
    send: Callable[[Request], Any] | None = None
    asend: Callable[[Request], Any] | None = None
    stream: Callable[[Request], Any] | None = None
    astream: Callable[[Request], Any] | None = None
    end_mark: bool = False
    capabilities: frozenset[str] = frozenset()
    fingerprint: str = ""
    durable: bool = False
    """Whether `fingerprint` is the same in other processes."""
    timed: bool = False
    """Whether it applies `Request.timeout` to its own sockets."""
    prepare: Callable[[], None] | None = None
    """Does what takes long and is needed once, before the clock of the first attempt starts."""
    warm_up: Callable[[int], None] | None = None
    """Opens connections until as many are idle."""
    awarm_up: Callable[[int], Awaitable[None]] | None = None
    """Like `warm_up`, for the running event loop."""
    cancel_scope: Callable[[], CancelScope] | None = None
    """Makes the scope that a sync call runs in; None: a sync call of it cannot be cancelled."""
    with_json_instruction: Callable[[Request], Request] | None = None
    """Adds a request's `response_format` to the prompt, for a model without such an option."""
    close: Callable[[], None] | None = None
    """Closes its connections. Called when nothing uses them any more."""
    aclose: Callable[[], Awaitable[None]] | None = None
    """Like `close`, for the connections of the running event loop."""
    model_id: str = ""
    """The provider's own name of the model; for a callable without one, its registered name."""
    price: Price | None = None
    """What its tokens cost; None if that is unknown."""


class EndpointSource(Protocol):
    """Gives the endpoint for calls with one key; makes it when needed and replaces it with age."""

    @property
    def endpoint(self) -> Endpoint | None:
        """The present one, if it was made."""
        ...

    def take(self, now: float) -> Endpoint:
        """The endpoint for one call, until it is given back."""
        ...

    def give_back(self, endpoint: Endpoint, now: float) -> None:
        """A call that took `endpoint` is over."""
        ...


class SharedCircuit(Protocol):
    """The circuit that the processes of a fleet share, beside the breaker of this process."""

    def ask(self) -> Question:
        """Asks for the probe of the fleet."""
        ...

    def admit(self, question: Question, reply: Any, *, lease: float | None) -> Permit | None:
        """A permit of the breaker, if the `reply` to `question` allows it.

        Without a reply the breaker decides alone. `lease` is that of `CircuitBreaker.admit`.
        """
        ...

    def statistics(self) -> dict[str, Any]:
        """What this process knows of the circuit of the fleet."""
        ...

    def explain(self) -> str | None:
        """Until when the circuit of the fleet is open, and who reported it; None if it is not."""
        ...


@dataclass(slots=True, eq=False, weakref_slot=True)
class Target:
    """A registered model with its policies and its state."""

    name: str
    provider: str
    endpoint: Endpoint
    metadata: Mapping[str, Any]
    retry: RetryPolicy
    breaker: CircuitBreaker | None = None
    pool: Pool | None = None
    budget: RetryBudget | None = None
    timeout: float | None = None
    first_token_timeout: float | None = None
    retry_on: RetryOn | None = None
    context_window: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of every request to it, instead of the caller's."""
    clients: Mapping[Member, EndpointSource] = field(default_factory=dict)
    """For the keys of `pool`; a pool without keys has none."""
    owned: bool = False
    """Whether the manager created the endpoint, and so has to close it."""
    prepared: bool = False
    """Whether `Endpoint.prepare` was called, or there is none."""
    rate_limited_until: float = field(default=-1.0, compare=False)
    """Clock time until which it is rate limited by a Retry-After."""
    circuit: SharedCircuit | None = None
    """Shares the circuit of `breaker`; None without a fleet."""
    report_pause: Callable[[float], None] | None = None
    """Passes on to a fleet for how many seconds the provider asks to pause; None: `pool` does."""

    def __post_init__(self) -> None:
        self.prepared = self.prepared or self.endpoint.prepare is None

    def adapt(self, request: Request) -> Request:
        """`request` with this target's own parameters."""
        if not self.params:
            return request
        params = {**request.params, **self.params}
        return replace(request, params=params, fixed_params=frozenset(self.params))

    def pause(self, seconds: float, now: float) -> None:
        """Send nothing for `seconds`, as a provider asks for."""
        until = now + min(seconds, LONGEST_PAUSE)
        self.rate_limited_until = max(self.rate_limited_until, until)

    def rate_limited_for(self, now: float) -> float:
        """Seconds for which it is still rate limited; zero or less if it is not."""
        return self.rate_limited_until - now

    @property
    def price(self) -> Price | None:
        """The price of the model; with a pool of keys for different models, of the first one's."""
        return self.endpoint.price

    def reset(self) -> None:
        """Close the breaker, and forget a rate limit."""
        self.rate_limited_until = -1.0
        if self.breaker is not None:
            self.breaker.reset()

    @property
    def breaker_state(self) -> str:
        """``closed``, ``open`` or ``half-open``. Without a breaker it is ``closed``."""
        return "closed" if self.breaker is None else self.breaker.state
