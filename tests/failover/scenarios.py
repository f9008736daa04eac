"""Sixteen failures of a primary model, and what the caller gets with the defaults of agentkit.

`SCENARIOS` is acted out over real sockets by `test_scenarios.py`, and `docs/_hooks/outages.py`
writes it into a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agentkit.testing import faults
from agentkit.types import Response
from tests.providers.contract import PROVIDERS

ANSWER = "The capital is Paris."
SECOND = "Paris, says the fallback."

Caller = Literal[
    "primary", "fallback", "ContentFilterError", "InvalidRequestError", "StreamInterruptedError"
]


@dataclass(frozen=True)
class Outcome:
    """Who answers, or the error that the caller gets; and how often the primary is asked."""

    caller: Caller
    attempts: int

    def __str__(self) -> str:
        if self.caller == "primary":
            return f"primary, attempt {self.attempts}"
        if self.caller == "fallback":
            return f"fallback, after {self.attempts} attempt{'s' * (self.attempts > 1)}"
        return f"`{self.caller}`"


@dataclass(frozen=True)
class Option:
    """An option that changes the outcome: of a call, or of the manager.

    `complete` is None if it concerns only streams.
    """

    stream: Outcome
    complete: Outcome | None = None
    of_call: Mapping[str, Any] = field(default_factory=dict)
    of_manager: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        ((name, value),) = {**self.of_call, **self.of_manager}.items()
        shown = f'"{value}"' if isinstance(value, str) else value
        return f"`{name}={shown}`"


@dataclass(frozen=True)
class Scenario:
    """What happens to the primary, and what that comes to.

    Attributes:
        name: how the page calls it.
        happens: what the provider does, for the page.
        outcome: a fault, an answer, or a function from the provider's name to either.
        once: whether it happens to the first request alone.
        complete: what a caller of `complete` gets.
        stream: what a caller of `stream` gets.
        fallback: what the fallback does; None: it answers.
        share: seconds that a model without a timeout gets while another is left, instead of 60.
        option: an option that changes the outcome.
    """

    name: str
    happens: str
    outcome: Any
    complete: Outcome
    stream: Outcome
    once: bool = False
    fallback: Any = None
    share: float | None = None
    option: Option | None = None

    @property
    def gets(self) -> tuple[str, str]:
        """What the callers of `complete` and of `stream` get, for the page."""
        return str(self.complete), str(self.stream)

    def of(self, provider: str) -> Any:
        """The outcome at `provider`."""
        return self.outcome(provider) if callable(self.outcome) else self.outcome


@dataclass(frozen=True)
class History:
    """A scenario of several requests; `test_scenarios.py` has a test of its own for it."""

    name: str
    happens: str
    outcome: str
    """What the caller gets, complete or as a stream."""
    test: str
    option: Option | None = None

    @property
    def gets(self) -> tuple[str, str]:
        """What the callers of `complete` and of `stream` get, for the page."""
        return self.outcome, "the same"


_BROKEN = Outcome("StreamInterruptedError", 1)
_USED_UP = Outcome("fallback", 3)
_LEFT = Outcome("fallback", 1)
_RESTART = Option(_LEFT, of_call={"on_interrupt": "restart"})
_FILTERED: Response[Any] = Response("", finish_reason="content_filter")
_SHORT = 0.1
_READS = 0.4  # the first content has to arrive within it

SCENARIOS: tuple[Scenario | History, ...] = (
    Scenario(
        "429 with Retry-After",
        "one 429 with `Retry-After: 1`",
        faults.status(429, retry_after=1),
        Outcome("primary", 2),
        Outcome("primary", 2),
        once=True,
    ),
    Scenario("persistent 429", "429 to every request", faults.status(429), _USED_UP, _USED_UP),
    Scenario(
        "one 500",
        "one 500",
        faults.status(500),
        Outcome("primary", 2),
        Outcome("primary", 2),
        once=True,
    ),
    Scenario("persistent 503", "503 to every request", faults.status(503), _USED_UP, _USED_UP),
    Scenario("connection reset", "every connection is reset", faults.reset(), _USED_UP, _USED_UP),
    Scenario(
        "silence",
        "no answer, and the connection stays open",
        faults.silence(),
        _LEFT,
        _LEFT,
        share=_SHORT,
    ),
    Scenario(
        "slow first token",
        "the first token takes longer than a minute",
        faults.slow_first_token(30),
        _LEFT,
        _LEFT,
        share=_SHORT,
    ),
    Scenario(
        "cut stream",
        "the connection is closed halfway through the answer",
        faults.cut_stream(2),
        _USED_UP,
        _BROKEN,
        option=_RESTART,
    ),
    Scenario(
        "stalled stream",
        "silence halfway through the answer",
        faults.stalled_stream(2),
        _LEFT,
        _BROKEN,
        share=_READS,
        option=_RESTART,
    ),
    Scenario(
        "malformed chunk",
        "a part of the answer is not JSON",
        faults.malformed_chunk(2),
        _USED_UP,
        _BROKEN,
        option=_RESTART,
    ),
    Scenario(
        "missing end mark",
        "the answer ends without its end mark",
        faults.missing_end(),
        _USED_UP,
        _BROKEN,
        option=_RESTART,
    ),
    Scenario(
        "context length",
        "the prompt does not fit into the primary's context",
        lambda provider: PROVIDERS[provider].too_long,
        _LEFT,
        _LEFT,
    ),
    Scenario(
        "content filter",
        "the provider refuses to answer",
        _FILTERED,
        Outcome("ContentFilterError", 1),
        Outcome("ContentFilterError", 1),
        option=Option(_LEFT, _LEFT, of_manager={"fallback_on_content_filter": True}),
    ),
    Scenario(
        "refused prefill",
        "the connection is lost, and the fallback refuses to continue its answer",
        faults.cut_stream(2),
        _USED_UP,
        _BROKEN,
        fallback=lambda body: (
            faults.status(400) if body["messages"][-1]["role"] == "assistant" else SECOND
        ),
        option=Option(_BROKEN, of_call={"on_interrupt": "continue"}),
    ),
    History(
        "recovery",
        "503 to every request, then the primary is well again",
        "fallback, until 60 s after the breaker opened; then primary",
        test="test_a_primary_that_recovers",
    ),
    History(
        "accounting",
        "a 500 and a retry; then an outage and a fallback",
        "a ledger with one entry for each request that was sent",
        test="test_every_request_is_accounted_for",
    ),
)
