"""The tables of the page and its sentence, from the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

CONTENDERS: Final = {
    "sdk": "openai SDK",
    "through": "agentkit over it",
    "native": "native",
    "observed": "native, OTel",
    "library": "library alone",
    "floor": "sockets alone",
}
"""The names of contenders, and their titles."""
BEDROCK: Final = {"boto3": "boto3", "through": "agentkit over it", "native": "native"}
ROWS: Final = (
    "calls, one at a time",
    "calls, 16 at once",
    "calls, 64 at once",
    "calls, 256 at once",
    "calls over TLS, 16 at once",
    "streams of 61 chunks, 16 at once",
    "streams of 400 chunks, 16 at once",
    "sync calls, one thread",
    "sync calls, 16 threads",
    "sync calls over TLS, one thread",
    "sync streams of 61 chunks",
)
PACED: Final = "256 streams of 50 chunks a second"
MEMORY: Final = ("900 open streams over plain HTTP", "900 open streams over TLS")
_MISSING: Final = "–"
Results = Mapping[str, Any]


def calls(results: Results) -> str:
    """Calls and streams: the time of the SDK, and how many times as fast the others are."""
    first, *others = CONTENDERS.values()
    rows = [["", f"{first}, µs (CPU · time)", *others]]
    for title in ROWS:
        if title in results:
            base = results[title]["sdk"]
            ratios = [_ratios(base, results[title].get(name)) for name in list(CONTENDERS)[1:]]
            rows.append([title, f"{base['cpu']:,.0f} · {base['wall']:,.0f}", *ratios])
    return _table(rows)


def paced(results: Results) -> str:
    """The lag of chunks of many streams at once."""
    rows = [["", *CONTENDERS.values()]]
    for title, name, unit in (
        ("lag of a chunk, p50", "p50", "ms"),
        ("lag of a chunk, p99", "p99", "ms"),
        ("CPU for a chunk", "cpu", "µs"),
    ):
        rows.append([title, *_figures(results[PACED], CONTENDERS, name, f"{{:,.1f}} {unit}")])
    return _table(rows)


def memory(results: Results) -> str:
    """What open streams take."""
    names = ("sdk", "through", "native")
    rows = [["", *(CONTENDERS[name] for name in names)]]
    rows += [
        [title, *_figures(results[title], names, "mebibytes", "{:.0f} MiB")]
        for title in MEMORY
        if title in results
    ]
    return _table(rows)


def bedrock(results: Results) -> str:
    """Bedrock: calls and streams beside boto3."""
    found = results["bedrock"]
    base, *others = (found["calls"][name] for name in BEDROCK)
    first = f"{base['cpu']:,.0f} · {base['wall']:,.0f} µs"
    rows = [["", *BEDROCK.values()]]
    rows.append(["calls, 16 at once: CPU · time", first, *(_ratios(base, o) for o in others)])
    base, *others = (found["streams"][name] for name in BEDROCK)
    ratios = [f"{base['cpu'] / each['cpu']:.1f} ×" for each in others]
    rows.append(["CPU for an event of 200 streams", f"{base['cpu']:,.0f} µs", *ratios])
    for title, work, name, form in (
        ("200 streams of 2.05 s", "streams", "seconds", "{:.2f} s"),
        ("threads", "streams", "threads", "{:.0f}"),
        ("memory", "streams", "mebibytes", "{:.0f} MiB"),
        ("lag of the event loop, p99", "streams", "lag", "{:.1f} ms"),
        ("the same beside other work", "beside", "lag", "{:.1f} ms"),
    ):
        if work in found:
            rows.append([title, *_figures(found[work], BEDROCK, name, form)])
    return _table(rows)


def sentence(results: Results) -> str:
    """What to remember."""
    titles = ("calls, 16 at once", "streams of 61 chunks, 16 at once")
    each = [results[title] for title in titles]
    call, stream = (int(found["sdk"]["cpu"] / found["native"]["cpu"] + 0.05) for found in each)
    return (
        "Over the [native transport](../how-to/native-transport.md), agentkit calls a model "
        f"{call} times as fast as the vendor's\nSDK alone, and reads streams {stream} times as "
        "fast, with retries, circuit breaker, deadline, ledger and telemetry on."
    )


def server(results: Results) -> str:
    """What the server could send."""
    found = results["server"]
    return (
        f"The server by itself sends {found['answers']:,.0f} answers or {found['chunks']:,.0f} "
        "chunks a second."
    )


TABLES: Final = {
    "sentence": (sentence, "calls, 16 at once"),
    "calls": (calls, "calls, 16 at once"),
    "server": (server, "server"),
    "paced": (paced, PACED),
    "memory": (memory, MEMORY[0]),
    "bedrock": (bedrock, "bedrock"),
}
"""What stands between the marks of the page, and the result that it needs."""


def filled(page: str, results: Results) -> str:
    """`page` with everything that was measured between its marks."""
    for name, (write, needed) in TABLES.items():
        if needed in results:
            before, mark, rest = page.partition(f"<!-- {name} -->\n")
            if mark:
                _, end, after = rest.partition("<!-- end -->")
                page = f"{before}{mark}\n{write(results)}\n\n{end}{after}"
    return page


def _ratios(base: Mapping[str, float], figures: Mapping[str, float] | None) -> str:
    if figures is None:
        return _MISSING
    return f"{base['cpu'] / figures['cpu']:.1f} · {base['wall'] / figures['wall']:.1f}"


def _figures(
    found: Mapping[str, Mapping[str, float]], names: Iterable[str], name: str, form: str
) -> list[str]:
    return [form.format(found[each][name]) if each in found else _MISSING for each in names]


def _table(rows: list[list[str]]) -> str:
    head, *body = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([head, "|---|" + "--:|" * (len(rows[0]) - 1), *body])
