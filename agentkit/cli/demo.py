"""``agentkit demo``: an outage on this machine, and how a manager survives it.

Only the two models are made up. Retries, circuit breakers, fallback, response cache and every
number are those of `LLMManager`, with shorter times than its defaults.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer
from rich.text import Text

from agentkit._version import __version__
from agentkit.cli.output import AsJson, console, fail, is_screen, one_line, print_json, print_text
from agentkit.errors import LLMError
from agentkit.types import Now, Response, Usage

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PRIMARY: Final = "primary"
FALLBACK: Final = "fallback"
_ANSWERS: Final = {
    "Which planet is the largest?": "Jupiter.",
    "Who wrote Faust?": "Johann Wolfgang von Goethe.",
    "What is the capital of France?": "Paris.",
    "How many bits are in a byte?": "Eight.",
    "What is the boiling point of water at sea level?": "100 degrees Celsius.",
    "In which year did Apollo 11 reach the Moon?": "1969.",
}
_PLANET, _FAUST, _CAPITAL, _BYTE, _WATER, _APOLLO = _ANSWERS
_RECOVERY: Final = "The primary is up again: its breaker lets one call through as a probe"
_SCENES: Final = (
    ("Both models are up", True, (_PLANET, _FAUST)),
    ("The primary goes down: each of its calls fails with HTTP 503", False, (_CAPITAL,)),
    ("Its fifth failure in a row opens its circuit breaker", False, (_BYTE,)),
    ("While the breaker is open, nothing is sent to the primary", False, (_WATER,)),
    ("Two earlier questions: the response cache answers", False, (_PLANET, _CAPITAL)),
    (_RECOVERY, True, (_APOLLO, _WATER)),
)
"""The title of each scene, whether the primary is up, and the questions."""

_STYLES: Final = {
    "success": "green",
    "failure": "red",
    "skipped": "yellow",
    "closed": "green",
    "half-open": "yellow",
    "open": "bold red",
}


class Pace(NamedTuple):
    """Seconds of a call, of the first back-off, of a breaker's recovery, and between scenes."""

    latency: float
    back_off: float
    recovery: float
    pause: float


CALM: Final = Pace(latency=0.18, back_off=0.3, recovery=2.9, pause=0.5)
FAST: Final = Pace(latency=0.01, back_off=0.02, recovery=0.6, pause=0.0)


def command(
    fast: Annotated[bool, typer.Option("--fast", help="Take about one second.")] = False,
    fleet: Annotated[
        bool, typer.Option("--fleet", help="Play it with eight processes, alone and as a fleet.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Play an outage on this machine and show how agentkit survives it.

    Needs no key and no network, and writes nothing to disk. With --fleet, it
    starts a Valkey or Redis server, which must be installed.
    """
    if fleet:
        _play_fleet(fast=fast, as_json=as_json)
        return
    outage = Outage(FAST if fast else CALM)
    try:
        with outage.manager:
            if as_json:
                story = list(outage.play())
                scores = outage.scoreboard()
                print_json({"agentkit": __version__, "story": story, "scoreboard": scores})
            else:
                show(console(), outage)
    except LLMError as error:
        fail(one_line(error))


def _play_fleet(*, fast: bool, as_json: bool) -> None:
    from agentkit.cli import demo_fleet

    pace = demo_fleet.FAST if fast else demo_fleet.CALM
    try:
        if as_json:
            print_json({"agentkit": __version__, **demo_fleet.report(pace)})
        else:
            demo_fleet.show(console(), pace)
    except LLMError as error:
        fail(one_line(error))


class ServiceUnavailable(Exception):  # noqa: N818 - named as in the SDKs
    """What an SDK raises for HTTP 503; agentkit reads `status_code`."""

    status_code = 503


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)  # Ctrl-C ends it


class Outage:
    """A manager with two models, one of which goes down and recovers."""

    def __init__(
        self,
        pace: Pace,
        *,
        clock: Now = time.monotonic,
        sleep: Callable[[float], object] = _wait,
        rng: Callable[[], float] = random.random,
    ) -> None:
        from agentkit.manager.manager import LLMManager
        from agentkit.policy.breaker import CircuitBreaker
        from agentkit.policy.retry import RetryPolicy

        self.primary_is_up = True
        self._pace = pace
        self._clock = clock
        self._sleep = sleep
        self._rng = rng
        self._changes: list[str] = []
        retry = RetryPolicy(base_delay=pace.back_off)
        self.manager = LLMManager(name="demo", cache="memory", retry=retry, clock=clock, rng=rng)
        self.breakers: dict[str, CircuitBreaker] = {}
        for name, model in ((PRIMARY, self._primary), (FALLBACK, self._fallback)):
            breaker = CircuitBreaker(
                name=name, recovery_timeout=pace.recovery, clock=clock, on_change=self._on_change
            )
            self.manager.register_model(name, model, breaker=breaker)
            self.breakers[name] = breaker
        self.manager.set_fallback_chain([PRIMARY, FALLBACK])

    def play(self) -> Iterator[dict[str, Any]]:
        """Each scene, question and answer as it happens, with `at` in seconds since the start.

        Raises:
            LLMError: a question was not answered.
        """
        started = self._clock()

        def event(kind: str, **facts: Any) -> dict[str, Any]:
            return {"at": round(self._clock() - started, 4), "kind": kind, **facts}

        for number, (title, self.primary_is_up, questions) in enumerate(_SCENES):
            self._sleep(self._pace.pause if number else 0)
            yield event("scene", title=title)
            while title == _RECOVERY and (seconds := self.breakers[PRIMARY].retry_after):
                self._sleep(seconds)
            for question in questions:
                yield event("question", text=question)
                response = self.manager.complete(question)
                changes, self._changes = self._changes, []
                yield event(
                    "answer",
                    text=response.text,
                    model=response.model,
                    cache=response.ledger.cache,
                    attempts=[entry._asdict() for entry in response.ledger],
                    explanation=response.ledger.explain(),
                    breakers=changes,
                )

    def scoreboard(self) -> dict[str, Any]:
        """What the manager and the breakers count: for each model, and in total."""
        models = {}
        for name, breaker in self.breakers.items():
            figures = breaker.statistics()
            models[name] = {
                "attempts": self.manager.get_model_info(name)["stats"]["requests"],
                **asdict(self.manager.health(name)),
                "breaker": figures.state,
                "breaker_opened": figures.opens,
                "breaker_refused": figures.rejections,
                "probe_in": figures.retry_after,
            }
        return {"models": models, "totals": self.manager.get_metrics()}

    def _primary(self, prompt: str, kwargs: dict[str, Any]) -> Response[Any]:
        self._sleep((0.7 + 0.6 * self._rng()) * self._pace.latency)
        if not self.primary_is_up:
            raise ServiceUnavailable
        return self._answer(prompt)

    def _fallback(self, prompt: str, kwargs: dict[str, Any]) -> Response[Any]:
        self._sleep((1.0 + self._rng()) * self._pace.latency)
        return self._answer(prompt)

    def _answer(self, prompt: str) -> Response[Any]:
        text = _ANSWERS[prompt]
        return Response(text, usage=Usage(len(prompt.split()), len(text.split())))

    def _on_change(self, breaker: str, previous: str, state: str) -> None:
        self._changes.append(f"circuit breaker of {breaker}: {previous} → {state}")


def show(out: Console, outage: Outage) -> None:
    """Play `outage` on `out`, and print the final scoreboard."""
    with _live_scoreboard(out, outage):
        for event in outage.play():
            print_text(out, _render(event))
    out.print(_table(outage.scoreboard()))


@contextmanager
def _live_scoreboard(out: Console, outage: Outage) -> Iterator[None]:
    """On a terminal, keep the current scoreboard below the lines."""
    from rich.console import Group
    from rich.live import Live
    from rich.spinner import Spinner

    if not is_screen(out):
        yield
        return
    spinner = Spinner("dots", Text("Ctrl-C stops the demo", "dim"), style="cyan")
    live = Live(
        console=out,
        get_renderable=lambda: Group(_table(outage.scoreboard()), spinner),
        refresh_per_second=12,
        transient=True,
    )
    before = set(threading.enumerate())
    try:
        with live:
            yield
    finally:
        for thread in set(threading.enumerate()) - before:  # `Live` does not wait for its own
            thread.join(1.0)


def _render(event: dict[str, Any]) -> Text:
    if event["kind"] == "scene":
        return Text.assemble("\n", (event["title"], "bold underline"))
    if event["kind"] == "question":
        return Text(f"? {event['text']}", "bold")
    text = Text()
    *lines, total = event["explanation"].splitlines()
    for line, entry in zip_longest(lines, event["attempts"]):
        text.append(f"{line}\n", "cyan" if entry is None else _STYLES[entry["outcome"]])
    for change in event["breakers"]:
        text.append(f"  {change}\n", _STYLES[change.rpartition(" ")[2]])
    return text.append(f"  {total}\n", "dim").append(f"= {event['text']}", "bold green")


def _table(scores: dict[str, Any]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", "attempts", "success rate", "p50", "p95"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    table.add_column("circuit breaker", min_width=20)
    for name, score in scores["models"].items():
        breaker = Text(score["breaker"], _STYLES[score["breaker"]])
        if score["breaker"] == "open":
            breaker.append(f", probe in {score['probe_in']:.1f} s", "dim")
        elif score["breaker_opened"]:
            breaker.append(f", was open {score['breaker_opened']}×", "dim")
        figures = ["–"] * 3
        if score["attempts"]:
            latencies = (score["p50_latency"], score["p95_latency"])
            figures = [f"{score['success_rate']:.0%}", *(f"{1000 * s:.0f} ms" for s in latencies)]
        table.add_row(name, str(score["attempts"]), *figures, breaker)
    totals = scores["totals"]
    line = (
        f"{totals['total_requests']} questions, {totals['successful_requests']} answered · "
        f"{totals['total_retries']} retries · {totals['cache_hits']} from the response cache"
    )
    return Group(table, Text(line))
