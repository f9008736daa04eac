"""The page of the report, written from the results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.environments import CONTENDERS
from benchmarks.plot import bars, image
from benchmarks.works import WORKS, Work

HEAD = """\
# Benchmarks

What agentkit costs and what it saves, compared with its peers on the same machine. `make bench`
repeats every measurement and writes this page; no figure is typed by hand. Each contender runs in
its own environment and process, and the contenders of a table run one after another, on processors
that are kept awake. The model is a function on the same machine, so that only the code around it is
measured.

Peers are used as their documentation shows, with their defaults. For a fair comparison, note that
pydantic-ai makes one attempt per model and leaves retries to the vendor's client, which is not part
of these measurements, and that LiteLLM and LangChain pass the attempt timeout to the vendor's
client, so here the function enforces it. TensorZero and Bifrost are standalone gateways that pip
cannot install; they are not measured.
"""
NEXT = """
Next: [what happens in a call](../explanation/life-of-a-request.md), or how to
[record calls with OpenTelemetry](../policies/telemetry.md).
"""


def page(results: dict[str, Any]) -> str:
    """The complete page as Markdown."""
    sections = [HEAD, _summary(results), _machine(results)]
    sections += [
        "\n".join(_section(work, results["works"][work.name]))
        for work in WORKS
        if work.name in results["works"]
    ]
    return "\n".join(sections).rstrip() + "\n" + NEXT


def _summary(results: dict[str, Any]) -> str:
    lines = ["| work | target | agentkit | reached |", "|---|---|---|---|"]
    for work in WORKS:
        if work.name in results["works"]:
            ours = results["works"][work.name]["outcomes"]["agentkit"]
            name = f"[{work.title}](#{_anchor(work)})"
            lines.append(
                f"| {name} | {work.target} | {_ours(work, ours)} | {_reached(work, ours)} |"
            )
    return "\n".join(lines) + "\n"


def _anchor(work: Work) -> str:
    kept = "".join(c for c in work.title.lower() if c.isalnum() or c in " -_")
    return "-".join(kept.split())


def _ours(work: Work, ours: dict[str, Any]) -> str:
    if "figures" not in ours:
        return f"– ({ours['reason']})"
    limited = [column for column in work.columns if column.at_most is not None]
    return ", ".join(column.shown(ours["figures"][column.key]) for column in limited)


def _reached(work: Work, ours: dict[str, Any]) -> str:
    return "yes" if "figures" in ours and work.reached(ours["figures"]) else "**no**"


def _machine(results: dict[str, Any]) -> str:
    facts = results["machine"]
    versions = {
        contender.title: outcome["version"]
        for work in results["works"].values()
        for contender in CONTENDERS
        if (outcome := work["outcomes"].get(contender.name, {})).get("version")
    }
    return (
        f"Measured on {facts['date']}: {facts['processor']}, {facts['cores']} cores, "
        f"{facts['system']}, {facts['python']}. "
        + ", ".join(f"{title} {version}" for title, version in versions.items())
        + ".\n"
    )


def _section(work: Work, result: dict[str, Any]) -> Iterator[str]:
    outcomes = result["outcomes"]
    yield f"## {work.title}\n"
    yield f"{work.method} Measured on {result['date']}.\n"
    yield "| | " + " | ".join(column.label for column in work.columns) + " |"
    yield "|---" * (len(work.columns) + 1) + "|"
    absent = []
    for contender in CONTENDERS:
        outcome = outcomes.get(contender.name)
        if outcome is None:
            continue
        figures = outcome.get("figures", {})
        if not figures:
            absent.append((contender.title, outcome["reason"]))
        cells = [
            column.shown(figures[column.key]) if column.key in figures else "–"
            for column in work.columns
        ]
        yield f"| {contender.title} | " + " | ".join(cells) + " |"
    limits = ["–" if c.at_most is None else f"≤ {c.shown(c.at_most)}" for c in work.columns]
    yield "| *target* | " + " | ".join(limits) + " |"
    yield ""
    if absent:
        yield "".join(f"- {title}: {reason}.\n" for title, reason in absent)
    if any(len(bars(outcomes, column)) > 1 for column in work.columns if column.drawn):
        yield f"![{work.title}: agentkit and its peers]({image(work)})\n"
