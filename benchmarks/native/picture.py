"""The picture of the page: how many times as fast as the SDK alone, drawn from the results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ROWS: Final = (
    "calls, 16 at once",
    "calls, 256 at once",
    "calls over TLS, 16 at once",
    "sync calls, one thread",
    "streams of 61 chunks, 16 at once",
    "streams of 400 chunks, 16 at once",
)
CONTENDERS: Final = (
    ("native", "agentkit, native", "ours"),
    ("observed", "the same with OpenTelemetry", "light"),
    ("sdk", "openai SDK alone = 1", "others"),
)
_WIDTH, _LABELS, _BAR, _GAP, _TOP = 640, 220, 12, 14, 58
_STYLE: Final = """
 svg { font: 12px sans-serif; --ours: #3f51b5; --light: #8c9aea; --others: #9aa0b5; --ink: #22263a }
 @media (prefers-color-scheme: dark) {
  svg { --ours: #8c9aea; --light: #5a68c4; --others: #5f6580; --ink: #e2e4ef }
 }
 text { fill: var(--ink) } .title { font-weight: bold; font-size: 14px } .label { text-anchor: end }
"""


def draw(results: Mapping[str, Any]) -> str:
    """An SVG with a group of bars for each of `ROWS` that was measured."""
    rows = [(title, _ratios(results[title])) for title in ROWS if title in results]
    longest = max(max(ratios.values()) for _, ratios in rows)
    scale = (_WIDTH - _LABELS - 60) / longest
    group = len(CONTENDERS) * _BAR + _GAP
    height = _TOP + group * len(rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{_sentence(rows)}</title>",
        f"<style>{_STYLE}</style>",
        '<text x="8" y="20" class="title">Calls and streams in the same processor time</text>',
        *_legend(),
    ]
    for index, (title, ratios) in enumerate(rows):
        top = _TOP + index * group
        middle = top + len(CONTENDERS) * _BAR / 2 + 4
        lines.append(f'<text x="{_LABELS - 10}" y="{middle:g}" class="label">{title}</text>')
        for place, (name, _, shade) in enumerate(CONTENDERS):
            y, width = top + place * _BAR, ratios[name] * scale
            lines.append(
                f'<rect x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_BAR - 2}"'
                f' fill="var(--{shade})"/>'
            )
            end = _LABELS + width + 5
            if name != "sdk":
                lines.append(f'<text x="{end:.1f}" y="{y + 9}">{ratios[name]:.1f} ×</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _ratios(figures: Mapping[str, Any]) -> dict[str, float]:
    base = figures["sdk"]["cpu"]
    return {name: base / figures[name]["cpu"] for name, _, _ in CONTENDERS}


def _sentence(rows: list[tuple[str, dict[str, float]]]) -> str:
    each = "; ".join(f"{title}: {ratios['native']:.1f} times" for title, ratios in rows)
    return f"agentkit over its native transport, compared with the openai SDK alone. {each}."


def _legend() -> list[str]:
    lines, x = [], 8
    for _, title, shade in CONTENDERS:
        lines.append(f'<rect x="{x}" y="34" width="10" height="10" fill="var(--{shade})"/>')
        lines.append(f'<text x="{x + 15}" y="43">{title}</text>')
        x += 40 + 7 * len(title)
    return lines
