"""The story as lines of text, and the scoreboard as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentkit.cli.story import Beat, Kind

_STATES: Final = {"closed": "green", "half-open": "yellow", "open": "bold red"}
_VERDICTS: Final = {
    "hit": "answer found in the response cache",
    "shared": "shares an identical call in flight",
}
_OUTCOMES: Final = {"success": "✓ answered", "failure": "✗ ", "abandoned": "– let go"}
_WIDTH: Final = 9
"""Of a model's name."""


def line(beat: Beat) -> Text | None:
    """The beat as one line; None for those that only matter while they last."""
    write = _WRITERS.get(beat.kind)
    if write is None:
        return None
    text = write(beat.facts)
    return None if text is None else Text.assemble((f"{beat.at:6.2f} s  ", "dim"), text)


def activity(beat: Beat) -> str:
    """What is going on after `beat`, for a status line."""
    facts = beat.facts
    if beat.kind == "asking":
        return f"asking {facts['model']}, attempt {facts['number']}"
    if beat.kind == "back_off":
        wait, number = facts["delay"], facts["number"]
        return f"back-off of {wait:.2f} s before attempt {number} at {facts['model']}"
    return "waiting" if beat.kind == "waiting" else ""


def _scene(facts: Mapping[str, Any]) -> Text:
    return Text(facts["title"], "bold underline")


def _question(facts: Mapping[str, Any]) -> Text:
    return Text(f"? {facts['text']}", "bold")


def _attempt(facts: Mapping[str, Any]) -> Text:
    good = facts["outcome"] == "success"
    what = _OUTCOMES[facts["outcome"]]
    if facts["error"] is not None:
        what += facts["error"] + (f" {facts['status']}" if facts["status"] else "")
    text = _of_model(facts)
    text.append(f"#{facts['number']} ")
    text.append(what, "green" if good else "red")
    text.append(f" in {facts['duration']:.2f} s", "dim")
    if facts["delay"]:
        text.append(f", after {facts['delay']:.2f} s of back-off", "dim")
    if facts["breaker"] == "half-open":
        text.append(", the probe", "yellow")
    return text


def _skipped(facts: Mapping[str, Any]) -> Text:
    return _of_model(facts).append(f"↷ skipped, nothing sent: {facts['reason']}", "yellow")


def _fallback(facts: Mapping[str, Any]) -> Text:
    text = _of_model({"model": facts["source"]})
    text.append(f"→ on to {facts['to']}", "magenta")
    return text.append(f": {facts['reason']}", "dim")


def _breaker(facts: Mapping[str, Any]) -> Text:
    text = _of_model(facts)
    text.append("breaker ", "dim")
    text.append(facts["previous"], _STATES[facts["previous"]]).append(" → ", "dim")
    return text.append(facts["state"], _STATES[facts["state"]])


def _waiting(facts: Mapping[str, Any]) -> Text:
    left = f"breaker lets a probe through in {facts['seconds']:.2f} s"
    return _of_model(facts).append(left, "dim")


def _response_cache(facts: Mapping[str, Any]) -> Text | None:
    found = _VERDICTS.get(facts["verdict"])
    return None if found is None else _of_model(facts).append(f"◆ {found}", "cyan")


def _answer(facts: Mapping[str, Any]) -> Text:
    text = Text(f"= {facts['text']}", "bold green")
    sent = "nothing sent" if facts["sent"] == 0 else f"{facts['sent']} sent"
    return text.append(f"  ({facts['model']}, {facts['duration']:.2f} s, {sent})", "dim")


def _failure(facts: Mapping[str, Any]) -> Text:
    return Text(f"= no answer: {facts['error']}", "bold red")


def _of_model(facts: Mapping[str, Any]) -> Text:
    return Text(f"  {facts['model']:{_WIDTH}}")


_WRITERS: Final[dict[Kind, Callable[[Mapping[str, Any]], Text | None]]] = {
    "scene": _scene,
    "question": _question,
    "attempt": _attempt,
    "skipped": _skipped,
    "fallback": _fallback,
    "breaker": _breaker,
    "waiting": _waiting,
    "response_cache": _response_cache,
    "answer": _answer,
    "failure": _failure,
}


def scoreboard(scores: Mapping[str, Any]) -> RenderableType:
    """A row a model; the totals below."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", min_width=_WIDTH)
    for heading in ("attempts", "success rate", "p50", "p95"):
        table.add_column(heading, justify="right")
    table.add_column("breaker", min_width=20)
    for name, score in scores["models"].items():
        table.add_row(
            name,
            str(score["attempts"]),
            f"{score['success_rate']:.0%}" if score["attempts"] else "–",
            _latency(score["p50_latency"]),
            _latency(score["p95_latency"]),
            _breaker_now(score),
        )
    return Group(table, _totals(scores["totals"]))


def _breaker_now(score: Mapping[str, Any]) -> Text:
    text = Text(score["breaker"], _STATES[score["breaker"]])
    if score["breaker"] == "open":
        return text.append(f", probe in {score['probe_in']:.1f} s", "dim")
    if score["breaker_opened"]:
        text.append(f", opened {_count(score['breaker_opened'], 'time', 'times')}", "dim")
    return text


def _latency(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds else "–"


def _totals(totals: Mapping[str, Any]) -> Text:
    questions = _count(totals["total_requests"], "question", "questions")
    retries = _count(totals["total_retries"], "retry", "retries")
    return Text(
        f"{questions}, {totals['successful_requests']} answered ({totals['success_rate']:.0%}) · "
        f"{retries} · "
        f"{totals['cache_hits']} from the response cache"
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
