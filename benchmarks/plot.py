"""One chart for each work that has a comparison, drawn from the results."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.environments import CONTENDERS
from benchmarks.works import WORKS, Column, Work

OURS, OTHERS, TARGET, INK, PAPER = "#3f51b5", "#9aa0b5", "#c2410c", "#22263a", "#ffffff"
THEME = {  # name, light and dark colour: drawn in the light one, shown as the reader's page is
    "ours": (OURS, "#8c9aea"),
    "others": (OTHERS, "#5f6580"),
    "target": (TARGET, "#fb923c"),
    "ink": (INK, "#e2e4ef"),
    "paper": (PAPER, "#1e2129"),
}
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "agentkit",  # the same figures give the same file
}


def image(work: Work) -> str:
    """The file name of a work's image."""
    return f"{work.name}.svg"


def draw(results: dict[str, Any], out: Path) -> None:
    """Draw each column for which at least two contenders have a figure."""
    for work in WORKS:
        outcomes = results["works"].get(work.name, {}).get("outcomes", {})
        panels = [c for c in work.columns if c.drawn and len(bars(outcomes, c)) > 1]
        if panels:
            _figure(work, panels, outcomes, out / image(work))


def bars(outcomes: dict[str, Any], column: Column) -> list[tuple[str, float]]:
    """Titles and figures of the contenders that have one, in their order."""
    return [
        (contender.title, outcomes[contender.name]["figures"][column.key])
        for contender in CONTENDERS
        if column.key in outcomes.get(contender.name, {}).get("figures", {})
    ]


def _figure(work: Work, panels: list[Column], outcomes: dict[str, Any], path: Path) -> None:
    with mpl.rc_context(STYLE):
        tallest = max(len(bars(outcomes, column)) for column in panels)
        figure, axes = plt.subplots(
            len(panels),
            figsize=(5.4, (0.42 * tallest + 0.9) * len(panels) + 0.4),  # legible on a phone
            squeeze=False,
            layout="constrained",
        )
        figure.suptitle(work.title, fontweight="bold", x=0.01, ha="left")
        for panel, column in zip(axes[:, 0], panels, strict=True):
            _panel(panel, column, bars(outcomes, column))
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None}, transparent=True)
        plt.close(figure)
    path.write_text(themed(drawn.getvalue()), encoding="utf-8")


def themed(svg: str) -> str:
    """The same image with two palettes; the colour scheme of the page around it chooses."""
    for name, (light, _) in THEME.items():
        svg = svg.replace(light, f"var(--{name})")
    by_day, by_night = (
        "; ".join(f"--{name}: {shades[index]}" for name, shades in THEME.items())
        for index in range(2)
    )
    style = f"svg {{ {by_day} }} @media (prefers-color-scheme: dark) {{ svg {{ {by_night} }} }}"
    return svg.replace("<defs>", f"<style>{style}</style>\n <defs>", 1)


def _panel(panel: Axes, column: Column, figures: list[tuple[str, float]]) -> None:
    titles = [title for title, _ in figures]
    values = [value for _, value in figures]
    palette = [OURS if title == "agentkit" else OTHERS for title in titles]
    panel.barh(titles, values, color=palette, height=0.62)
    panel.invert_yaxis()
    label = column.label.replace("`", "")
    panel.set_xlabel(f"{label} ({column.unit})" if column.unit else label)
    if column.log:
        panel.set_xscale("log")
        panel.set_xlim(min(values) / 3, max(values) * 6)
    else:
        panel.set_xlim(0, max(values) * 1.25)
    for row, value in enumerate(values):
        panel.annotate(
            column.shown(value),
            (value, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
        )
    if column.at_most is not None:
        panel.axvline(column.at_most, color=TARGET, linewidth=1, linestyle="--")
        panel.annotate(
            f"target {column.shown(column.at_most)}",
            (column.at_most, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            color=TARGET,
            fontsize=8,
            ha="center",
            va="bottom",
        )
