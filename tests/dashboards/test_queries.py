"""Dashboard and alerts say what happens, asked of a real Prometheus that scrapes the example."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator

import pytest

from tests.dashboards.expressions import (
    Expression,
    alert_expressions,
    panel_expressions,
    variables,
)
from tests.dashboards.scraping import Prometheus, Series, scraping

PROGRAM = shutil.which("prometheus")
pytestmark = [
    pytest.mark.skipif(
        PROGRAM is None, reason="prometheus is not installed (Debian: apt-get install prometheus)"
    ),
    pytest.mark.processes,
]

ALL = {"manager": ".*", "model": ".*"}
CHOSEN = {"manager": "demo", "model": "(flaky|down|steady|spelled)"}
"""As Grafana writes a choice of several."""
MODEL = "agentkit_model"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    assert PROGRAM is not None
    with scraping(PROGRAM, tmp_path_factory.mktemp("prometheus")) as server:
        yield server


def panel(title: str, ref: str = "A") -> str:
    found = [each for each in panel_expressions() if each.where == f"{title} {ref}"]
    return found[0].filled(**ALL)


def by(label: str, series: Series) -> dict[str, float]:
    values = {labels[label]: value for labels, value in series}
    assert len(values) == len(series), f"{label} does not tell the series apart"
    return values


@pytest.mark.promise("S4-45")
@pytest.mark.parametrize("chosen", [ALL, CHOSEN], ids=["all", "chosen"])
@pytest.mark.parametrize("expression", panel_expressions(), ids=lambda each: each.where)
def test_a_panel_shows_numbers_and_its_legend_names_their_labels(
    prometheus: Prometheus, expression: Expression, chosen: dict[str, str]
) -> None:
    series = prometheus.query(expression.filled(**chosen))
    assert series
    for labels, value in series:
        assert math.isfinite(value)
        assert value >= 0
        assert set(labels) >= expression.shown_labels


@pytest.mark.parametrize("expression", alert_expressions(), ids=lambda each: each.where)
def test_an_alert_compares_numbers_and_its_texts_name_their_labels(
    prometheus: Prometheus, expression: Expression
) -> None:
    """A quiet alert returns nothing, so it is asked without its final comparison."""
    prometheus.query(expression.promql)
    series = prometheus.query(expression.value)
    assert series
    for labels, value in series:
        assert math.isfinite(value)
        assert set(labels) >= expression.shown_labels


def test_prometheus_evaluates_every_alert_without_an_error(prometheus: Prometheus) -> None:
    prometheus.wait_until('count_over_time(ALERTS{alertname="AgentkitModelFailing"}[1m]) >= 2')
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {each.where for each in alert_expressions()}
    assert not [rule for rule in rules if rule.get("lastError")]


def test_an_alert_sees_the_models_that_fail_and_no_other(prometheus: Prometheus) -> None:
    (failing,) = [each for each in alert_expressions() if each.where == "AgentkitModelFailing"]
    assert set(by(MODEL, prometheus.query(failing.promql))) == {"flaky", "down"}


def test_the_success_rate_of_each_model_is_the_one_the_example_plays(
    prometheus: Prometheus,
) -> None:
    rates = by(MODEL, prometheus.query(panel("Success rate per model")))
    assert rates.pop("flaky") == pytest.approx(0.5, abs=0.15)
    assert rates == pytest.approx({"down": 0.0, "steady": 1.0, "spelled": 1.0})


def test_the_latency_of_each_model_is_at_least_what_it_takes(prometheus: Prometheus) -> None:
    p50, p95, p99 = (
        by(MODEL, prometheus.query(panel("Latency per model", ref))) for ref in ("A", "B", "C")
    )
    assert set(p50) == {"flaky", "steady", "spelled"}, "a model that never answers has none"
    for model, bucket_begins in {"flaky": 0.01, "steady": 0.02}.items():
        assert bucket_begins <= p50[model] <= p95[model] <= p99[model] < 5.0


def test_the_state_of_each_breaker_is_a_number_of_its_own(prometheus: Prometheus) -> None:
    states = by("agentkit_circuit_breaker_name", prometheus.query(panel("Breaker state")))
    broken = states.pop(next(name for name in states if name.endswith("down")))
    assert broken in {1.0, 2.0}
    assert set(states.values()) == {0.0}


@pytest.mark.parametrize(
    ("name", "values"),
    [("manager", ["demo"]), ("model", ["down", "flaky", "spelled", "steady"])],
)
def test_a_variable_offers_what_the_example_has(
    prometheus: Prometheus, name: str, values: list[str]
) -> None:
    metric, label = variables()[name]
    assert prometheus.get(f"label/{label}/values", **{"match[]": metric}) == values
