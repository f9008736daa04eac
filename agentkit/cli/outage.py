"""An outage, played on a real manager: two scripted models, one of which goes down and comes back.

Only the models are made up. Retries, breakers, fallback, response cache and every figure are those
of `LLMManager` with shorter times than its defaults.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from agentkit.cli.story import Beat, Narrator, Story
from agentkit.manager.manager import LLMManager
from agentkit.policy.breaker.breaker import CircuitBreaker
from agentkit.policy.retry import RetryPolicy
from agentkit.telemetry.otel import Telemetry
from agentkit.types import Clock, Response, Usage
from agentkit.types.context import Closing
from agentkit.types.observer import Observer

Sleep: TypeAlias = Callable[[float], object]

PRIMARY: Final = "primary"
FALLBACK: Final = "fallback"

_ANSWERS: Final = {
    "Which planet is the largest?": "Jupiter.",
    "Who wrote Faust?": "Johann Wolfgang von Goethe.",
    "What is the capital of France?": "Paris.",
    "How many bits are in a byte?": "Eight.",
    "What is the boiling point of water at sea level?": "100 degrees Celsius.",
    "In which year did Apollo 11 land?": "1969.",
}


def pause(seconds: float) -> None:
    """Wait; an interrupt ends it at once."""
    threading.Event().wait(seconds)


@dataclass(frozen=True, slots=True)
class Tempo:
    """Durations in seconds: of a call, of the first back-off, of a breaker's recovery, and of the
    pause in which a spectator reads.
    """

    latency: float
    back_off: float
    recovery: float
    breath: float


CALM: Final = Tempo(latency=0.18, back_off=0.3, recovery=2.9, breath=0.5)
BRISK: Final = Tempo(latency=0.01, back_off=0.02, recovery=0.6, breath=0.0)


class ServiceUnavailable(Exception):  # noqa: N818 - named like the exceptions of SDKs
    """What a client library raises for HTTP 503; agentkit reads the status."""

    status_code = 503


class StagedModel:
    """Knows its answers by heart, takes its time, and can be taken down."""

    def __init__(self, latency: float, sleep: Sleep) -> None:
        self.up = True
        self._latency = latency
        self._sleep = sleep

    def answer(self, prompt: str, kwargs: dict[str, Any]) -> Response[Any]:
        """The inference function: the answer, or HTTP 503 while the model is down."""
        self._sleep(random.uniform(0.7, 1.3) * self._latency)
        if not self.up:
            raise ServiceUnavailable
        text = _ANSWERS[prompt]
        return Response(text, usage=Usage(len(prompt.split()), len(text.split())))


class _Narrated(Telemetry):
    """The manager's usual telemetry, with a narrator in between."""

    def __init__(self, story: Story) -> None:
        super().__init__()
        self._story = story

    def observer(self, *args: Any) -> Observer:
        return Narrator(self._story, super().observer(*args))


class Outage(Closing):
    """The manager, its two models, and what happens to them.

    `listener` hears of each beat as it happens; `clock` and `sleep` are for tests.
    """

    def __init__(
        self,
        tempo: Tempo,
        listener: Callable[[Beat], object] | None = None,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = pause,
    ) -> None:
        self.story = Story(clock, listener)
        self._tempo = tempo
        self._sleep = sleep
        self.models = {
            PRIMARY: StagedModel(tempo.latency, sleep),
            FALLBACK: StagedModel(1.5 * tempo.latency, sleep),
        }
        self._breakers = {
            name: CircuitBreaker(
                recovery_timeout=tempo.recovery,
                name=name,
                clock=clock,
                on_change=self.story.breaker_changed,
            )
            for name in self.models
        }
        self.manager = LLMManager(
            name="demo",
            cache="memory",
            retry=RetryPolicy(base_delay=tempo.back_off),
            telemetry=_Narrated(self.story),
            clock=clock,
        )
        for name, model in self.models.items():
            self.manager.register_model(name, model.answer, breaker=self._breakers[name])
        self.manager.set_active_model(PRIMARY)
        self.manager.set_fallback_chain([FALLBACK])

    def play(self) -> None:
        """Play it from beginning to end. Raises `LLMError` when a question stays unanswered."""
        largest, faust, capital, byte, water, apollo = _ANSWERS
        self._scene("Both models are up", largest, faust)
        self.models[PRIMARY].up = False
        self._scene("primary goes down: each of its calls ends in HTTP 503", capital)
        self._scene("The outage goes on", byte)
        self._scene("The outage goes on, and nobody has touched anything", water)
        self._scene("Two earlier questions, while primary is still down", largest, capital)
        self.models[PRIMARY].up = True
        self._scene("primary is repaired; its breaker's recovery time has to pass")
        self._await_recovery()
        self._ask(apollo)
        self._ask(water)

    def scoreboard(self) -> dict[str, Any]:
        """What the manager and the breakers count: a part a model, and the totals."""
        return {
            "models": {name: self._score(name) for name in self.models},
            "totals": self.manager.get_metrics(),
        }

    def _score(self, name: str) -> dict[str, Any]:
        stats = self.manager.get_model_info(name)["stats"]
        breaker = self._breakers[name].statistics()
        return {
            "attempts": stats["requests"],
            "success_rate": self.manager.health(name).success_rate,
            "p50_latency": stats["p50_latency"],
            "p95_latency": stats["p95_latency"],
            "breaker": breaker.state,
            "breaker_opened": breaker.opens,
            "breaker_refused": breaker.rejections,
            "probe_in": breaker.retry_after,
        }

    def _await_recovery(self) -> None:
        breaker = self._breakers[PRIMARY]
        self.story.tell("waiting", model=PRIMARY, seconds=round(breaker.retry_after, 4))
        while (left := breaker.retry_after) > 0:
            self._sleep(left)

    def _scene(self, title: str, *questions: str) -> None:
        if self.story.beats:
            self._sleep(self._tempo.breath)
        self.story.tell("scene", title=title)
        for question in questions:
            self._ask(question)

    def _ask(self, question: str) -> None:
        self.manager.generate(question)

    def close(self) -> None:
        """End the manager."""
        self.manager.close()
