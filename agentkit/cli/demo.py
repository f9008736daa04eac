"""``agentkit demo``: the outage on a screen, as plain lines, or as JSON."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from agentkit._version import __version__
from agentkit.cli import show
from agentkit.cli.outage import BRISK, CALM, Outage, Tempo
from agentkit.cli.output import console, is_screen, print_json
from agentkit.cli.story import Beat


def run(*, fast: bool, as_json: bool) -> None:
    """Play the outage. Raises `LLMError` when the manager leaves a question unanswered."""
    tempo = BRISK if fast else CALM
    if as_json:
        _recite(tempo)
        return
    out = console()
    if is_screen(out):
        _perform(out, tempo)
    else:
        _print(out, tempo)


def _recite(tempo: Tempo) -> None:
    with Outage(tempo) as outage:
        outage.play()
        print_json(
            {
                "agentkit": __version__,
                "story": [beat.as_json() for beat in outage.story.beats],
                "scoreboard": outage.scoreboard(),
            }
        )


def _print(out: Console, tempo: Tempo) -> None:
    with Outage(tempo, lambda beat: _write(out, beat)) as outage:
        outage.play()
        out.print(show.scoreboard(outage.scoreboard()))


def _perform(out: Console, tempo: Tempo) -> None:
    """The story scrolls by; below it the scoreboard and what is going on now keep moving."""
    spinner = Spinner("dots", style="cyan")

    def listen(beat: Beat) -> None:
        _write(out, beat)
        spinner.update(text=Text(show.activity(beat), "dim"))

    with Outage(tempo, listen) as outage:

        def now() -> RenderableType:
            return Group(show.scoreboard(outage.scoreboard()), spinner)

        live = Live(console=out, get_renderable=now, refresh_per_second=12, transient=True)
        with _no_thread_left(), live:
            outage.play()
        out.print(show.scoreboard(outage.scoreboard()))


@contextmanager
def _no_thread_left() -> Iterator[None]:
    """Wait for threads that were started inside: a `Live` only tells its own to end."""
    before = set(threading.enumerate())
    try:
        yield
    finally:
        for thread in set(threading.enumerate()) - before:
            thread.join(1.0)


def _write(out: Console, beat: Beat) -> None:
    text = show.line(beat)
    if text is None:
        return
    if beat.kind == "scene":
        out.print()
    out.print(text, soft_wrap=True)
