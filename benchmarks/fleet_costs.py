"""What a fleet adds to a call, and how many calls a second one worker makes.

Two managers take turns, one alone and one in a fleet, so that both meet the same machine. Each row
has the median and the fastest tenth: what other work on the machine adds is in the former. Calls
follow each other without a pause, and where a process takes places ahead because of that, single
calls are measured, too. Run by `benchmarks.fleet`.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple

from agentkit import Budget, LLMManager, RateLimits
from tests.state.servers import Server

TURNS: Final = 20
CALLS: Final = 100
SINGLE: Final = 60
PAUSE: Final = 0.06
"""Seconds before a single call: those of one manager are twice as far apart."""
DISTINCT: Final = 5_000
AT_ONCE: Final = 50

LIMITS: Final = RateLimits(10**9, 10**9, 10**9, 10**9)

_numbers = itertools.count()

Prompt = Callable[[int], str]


class Row(NamedTuple):
    """A kind of call, and what it may add in microseconds, sync and async.

    One is nothing: medians of calls that do the same differ by more.
    """

    aims: tuple[int, int]
    manager: dict[str, Any]
    model: dict[str, Any]
    prompt: Prompt


def _same(_: int) -> str:
    return "hello"


def _another(_: int) -> str:
    return f"prompt {next(_numbers)}"


ROWS: Final = {
    "closed breaker": Row((1, 1), {}, {}, _same),
    "limits": Row((120, 150), {}, {"limits": LIMITS}, _same),
    "budget": Row((120, 150), {"budget": True}, {}, _same),
    "miss with claim": Row((200, 250), {"cache": "memory"}, {}, _another),
    "hit in memory": Row((1, 1), {"cache": "memory"}, {}, _same),
}
TAKES_AHEAD: Final = ("limits", "budget")
HIT_AIM: Final = 150
"""Microseconds of a response that another process left."""
RATE_AIM: Final = 5_000


def sync_model(_prompt: str, _options: dict[str, Any]) -> str:
    return "answer"


async def async_model(_prompt: str, _options: dict[str, Any]) -> str:
    return "answer"


@contextmanager
def manager(url: str, model: Any, row: Row) -> Iterator[LLMManager]:
    options = {"cache": None, **row.manager}
    if options.pop("budget", False):
        options["budget"] = Budget(tokens=10**12, per="day", scope=f"costs {next(_numbers)}")
    with LLMManager(fleet=url, **options) as llm:
        llm.register_model("m", model, {"version": "1"}, **row.model)
        llm.generate("connected")
        yield llm


def measure(server: Server) -> dict[str, Any]:
    """Every row: microseconds alone, and what the fleet adds to them."""
    found: dict[str, Any] = {}
    for name, row in ROWS.items():
        for kind, model, aim in zip(
            ("sync", "async"), (sync_model, async_model), row.aims, strict=True
        ):
            with ExitStack() as stack:
                pair = [
                    stack.enter_context(manager(url, model, row)) for url in ("off", server.url)
                ]
                alone, fleet = _take_turns(kind, pair, row.prompt)
                found[f"{name}, {kind}"] = {**_added(alone, fleet), "aim": aim}
                if name in TAKES_AHEAD:
                    alone, fleet = _take_turns(kind, pair, row.prompt, SINGLE, calls=1, pause=PAUSE)
                    found[f"{name}, now and then, {kind}"] = _added(alone, fleet)
    found["hit of another process"] = {
        kind: _hit(server, model, kind)
        for kind, model in (("sync", sync_model), ("async", async_model))
    }
    found["distinct calls"] = distinct(server)
    return found


def _take_turns(
    kind: str,
    managers: list[LLMManager],
    prompt: Prompt,
    turns: int = TURNS,
    *,
    calls: int = CALLS,
    pause: float = 0.0,
) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    if kind == "sync":
        for _ in range(turns):
            for llm, found in zip(managers, times, strict=True):
                time.sleep(pause)
                found.extend(_calls(llm, prompt, calls))
        return times

    async def main() -> None:
        for _ in range(turns):
            for llm, found in zip(managers, times, strict=True):
                await asyncio.sleep(pause)
                found.extend(await _acalls(llm, prompt, calls))

    asyncio.run(main())
    return times


def _calls(llm: LLMManager, prompt: Prompt, calls: int = CALLS) -> list[float]:
    times = []
    for number in range(calls):
        asked = prompt(number)
        started = time.perf_counter()
        llm.generate(asked)
        times.append(time.perf_counter() - started)
    return times


async def _acalls(llm: LLMManager, prompt: Prompt, calls: int = CALLS) -> list[float]:
    times = []
    for number in range(calls):
        asked = prompt(number)
        started = time.perf_counter()
        await llm.agenerate(asked)
        times.append(time.perf_counter() - started)
    return times


def _added(alone: list[float], fleet: list[float]) -> dict[str, float]:
    return {
        "alone": _median(alone),
        "added": round(_median(fleet) - _median(alone), 1),
        "added_fastest_tenth": round(_fastest(fleet) - _fastest(alone), 1),
    }


def _median(times: list[float]) -> float:
    return round(statistics.median(times) * 1e6, 1)


def _fastest(times: list[float]) -> float:
    return round(statistics.quantiles(times, n=10)[0] * 1e6, 1)


def _hit(server: Server, model: Any, kind: str) -> dict[str, float]:
    """Read what another manager has left in the store."""
    row = ROWS["miss with claim"]

    def prompt(number: int) -> str:
        return f"shared {kind} {number}"

    with manager(server.url, sync_model, row) as other:
        _calls(other, prompt)
    times: list[float] = []
    for _ in range(TURNS):
        with manager(server.url, model, row) as llm:
            times += _calls(llm, prompt) if kind == "sync" else asyncio.run(_acalls(llm, prompt))
    return {"median": _median(times), "fastest_tenth": _fastest(times), "aim": HIT_AIM}


def distinct(server: Server) -> dict[str, Any]:
    """Calls a second of one event loop with many at once, each with another prompt."""
    found: dict[str, Any] = {"aim": RATE_AIM}
    for name, url in (("alone", "off"), ("fleet", server.url)):
        with manager(url, async_model, ROWS["miss with claim"]) as llm:
            asyncio.run(_many(llm, DISTINCT // 10))
            cpu, started = time.process_time(), time.perf_counter()
            asyncio.run(_many(llm, DISTINCT))
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        found[name] = {
            "calls_per_second": round(DISTINCT / seconds),
            "processor_us_per_call": round(cpu / DISTINCT * 1e6, 1),
        }
    return found


async def _many(llm: LLMManager, calls: int) -> None:
    left = iter(range(calls))

    async def work() -> None:
        for number in left:
            await llm.agenerate(_another(number))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
