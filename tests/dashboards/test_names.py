"""Dashboard and alerts use names that telemetry writes."""

from __future__ import annotations

from typing import get_args

import pytest

from agentkit.telemetry import names
from agentkit.types.observer import CallOutcome
from tests.dashboards.expressions import (
    Expression,
    alert_expressions,
    dashboard,
    panel_expressions,
    variables,
)

EXPRESSIONS = [*panel_expressions(), *alert_expressions()]


def series(metric: names.Metric) -> set[str]:
    """What the exporter for Prometheus may call a metric; the kind decides on the ending."""
    base = metric.name.replace(".", "_") + ("_seconds" if metric.unit == "s" else "")
    return {base} | {f"{base}_{ending}" for ending in ("total", "bucket", "sum", "count")}


METRICS = {
    name for each in vars(names).values() if isinstance(each, names.Metric) for name in series(each)
}
LABELS = {"le"} | {
    each.replace(".", "_")
    for name, each in vars(names).items()
    if name.isupper() and isinstance(each, str)
}
VALUES = {
    "error_type": names.ERROR_TYPES | {""},
    "agentkit_outcome": set(get_args(CallOutcome)),
    "agentkit_circuit_breaker_state": set(names.BREAKER_STATES),
    "agentkit_cache_result": {"hit", "miss", "bypass", "error"},
    "gen_ai_token_type": {"input", "output"},
}


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda each: each.where)
def test_every_metric_label_and_value_is_one_that_is_written(expression: Expression) -> None:
    assert expression.metrics
    assert expression.metrics <= METRICS
    assert expression.labels <= LABELS
    for label, pattern in expression.matchers:
        if "$" not in pattern:
            assert set(pattern.split("|")) <= VALUES[label], f"{label} is never {pattern}"


@pytest.mark.parametrize("name", list(variables()))
def test_a_variable_lists_the_values_of_a_written_label(name: str) -> None:
    metric, label = variables()[name]
    assert metric in METRICS
    assert label in LABELS


def test_the_metrics_of_the_default_profile_are_all_shown_but_the_ones_named_here() -> None:
    elsewhere = {
        names.RETRY_DELAYS,  # follows from the policy
        names.CACHE_DURATION,
        names.OMISSIONS,  # rare, and on each response
        names.BREAKER_FAILURE_RATE,  # the state says when it matters
        names.INVOKE_AGENT_DURATION,  # of an agent's task, not of a request
        names.EXECUTE_TOOL_DURATION,
        names.FLEET_QUESTIONS,  # round trips show how busy the store is
    }
    renamed = {names.NEW_DURATION, names.NEW_FIRST_CHUNK}
    per_call = {names.INPUT_PER_CALL, names.OUTPUT_PER_CALL}
    agents = {names.INVOKE_AGENT_DURATION, names.EXECUTE_TOOL_DURATION}
    all_metrics = {each for each in vars(names).values() if isinstance(each, names.Metric)}
    shown = {metric for each in panel_expressions() for metric in each.metrics}
    missing = {each for each in all_metrics if not series(each) & shown}
    assert missing == elsewhere | renamed | per_call | agents


def test_panels_do_not_share_an_id_or_a_place() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
