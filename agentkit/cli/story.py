"""What happened, beat by beat, as the engine itself reports it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, TypeAlias

from agentkit.types import Clock, Request, Response
from agentkit.types.ledger import CacheResult, Entry, Ledger
from agentkit.types.observer import (
    AttemptObserver,
    CallObserver,
    CallOutcome,
    FallbackReason,
    Observer,
)

Kind: TypeAlias = Literal[
    "scene", "question", "asking", "attempt", "back_off", "skipped", "fallback", "breaker",
    "waiting", "response_cache", "answer", "failure",
]  # fmt: skip


class Beat(NamedTuple):
    """One thing that happened, `at` seconds after the story began."""

    at: float
    kind: Kind
    facts: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The beat as one flat JSON object; times in seconds."""
        return {"at": round(self.at, 4), "kind": self.kind, **self.facts}


class Story:
    """The beats so far; `listener` hears of each as it happens."""

    def __init__(self, clock: Clock, listener: Callable[[Beat], object] | None = None) -> None:
        self.beats: list[Beat] = []
        self._clock = clock
        self._began = clock()
        self._listener = listener
        self._under_way = False
        self._consequences: list[dict[str, str]] = []

    def tell(self, kind: Kind, **facts: Any) -> None:
        """Something happened just now."""
        beat = Beat(self._clock() - self._began, kind, facts)
        self.beats.append(beat)
        if self._listener is not None:
            self._listener(beat)
        if kind in ("asking", "attempt"):
            self._under_way = kind == "asking"
        while self._consequences and not self._under_way:
            self.tell("breaker", **self._consequences.pop(0))

    def breaker_changed(self, breaker: str, previous: str, state: str) -> None:
        """A listener for circuit breakers.

        A breaker hears of an attempt before observers do; the story puts the cause first.
        """
        change = {"model": breaker, "previous": previous, "state": state}
        if self._under_way:
            self._consequences.append(change)
        else:
            self.tell("breaker", **change)


class Narrator(Observer):
    """Tells the story of a manager, and passes everything on to the manager's own observer."""

    def __init__(self, story: Story, inner: Observer) -> None:
        self._story = story
        self._inner = inner

    def begin(self, request: Request, models: tuple[str, ...]) -> CallObserver:
        """A question is asked."""
        self._story.tell("question", text=request.text)
        return _Call(self._story, self._inner.begin(request, models))

    def breaker_changed(self, breaker: str, previous: str, state: str) -> None:
        """Only passed on: the story hears of it from the breakers themselves."""
        self._inner.breaker_changed(breaker, previous, state)


class _Call(CallObserver):
    def __init__(self, story: Story, inner: CallObserver) -> None:
        self._story = story
        self._inner = inner

    def attempt(
        self, model: str, provider: str, number: int, index: int, request: Request
    ) -> AttemptObserver:
        self._story.tell("asking", model=model, number=number)
        inner = self._inner.attempt(model, provider, number, index, request)
        return _Attempt(self._story, inner)

    def retry(self, model: str, provider: str, number: int, delay: float, error: BaseException,
              reason: Literal["backoff", "retry_after", "next_key"]) -> None:  # fmt: skip
        self._inner.retry(model, provider, number, delay, error, reason)
        self._story.tell("back_off", model=model, number=number, delay=round(delay, 4))

    def fallback(self, source: str, to: str, reason: FallbackReason) -> None:
        self._inner.fallback(source, to, reason)
        self._story.tell("fallback", source=source, to=to, reason=reason)

    def skipped(self, entry: Entry) -> None:
        self._inner.skipped(entry)
        self._story.tell("skipped", model=entry.model, reason=entry.reason, breaker=entry.breaker)

    def response_cache(self, model: str, verdict: CacheResult, seconds: float) -> None:
        self._inner.response_cache(model, verdict, seconds)
        self._story.tell("response_cache", model=model, verdict=verdict)

    def waited(self, model: str, seconds: float, acquired: bool) -> None:
        self._inner.waited(model, seconds, acquired)

    def end(
        self,
        outcome: CallOutcome,
        ledger: Ledger,
        response: Response[Any] | None,
        error: BaseException | None,
    ) -> None:
        self._inner.end(outcome, ledger, response, error)
        totals = {
            "outcome": outcome,
            "duration": round(ledger.duration, 4),
            "sent": len(ledger.sent),
            "retries": ledger.retries,
        }
        if response is None:
            self._story.tell("failure", error=type(error).__name__, **totals)
        else:
            self._story.tell("answer", model=response.model, text=response.text, **totals)


class _Attempt(AttemptObserver):
    def __init__(self, story: Story, inner: AttemptObserver) -> None:
        self._story = story
        self._inner = inner

    def scope(self) -> AbstractContextManager[object] | None:
        return self._inner.scope()

    def first_token(self, seconds: float) -> None:
        self._inner.first_token(seconds)

    def end(
        self, entry: Entry, response: Response[Any] | None, error: BaseException | None
    ) -> None:
        self._inner.end(entry, response, error)
        self._story.tell(
            "attempt",
            model=entry.model,
            number=entry.number,
            outcome=entry.outcome,
            duration=round(entry.duration, 4),
            delay=round(entry.delay, 4),
            error=entry.error,
            status=entry.status,
            breaker=entry.breaker,
        )
