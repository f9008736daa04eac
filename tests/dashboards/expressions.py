"""Every PromQL expression of the dashboard and the alerts, and the names in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "dashboards" / "grafana-agentkit.json"
ALERTS = ROOT / "dashboards" / "alerts.yml"

_TEXT = re.compile(r'"[^"]*"')
_METRIC = re.compile(r"([A-Za-z_]\w*)\s*[{\[]")
_SELECTOR = re.compile(r"{([^}]*)}")
_GROUPING = re.compile(r"\b(?:by|ignoring)\s*\(([^)]*)\)")
_WORD = re.compile(r"[A-Za-z_]\w*")
_MATCHER = re.compile(r'([A-Za-z_]\w*)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_SHOWN = re.compile(r"{{\s*(?:\$labels\.)?([a-z_]\w*)\s*}}")
_COMPARISON = re.compile(r"\s*(?:==|<|>)\s*[0-9.]+\s*\Z")


class Expression(NamedTuple):
    """One expression, where it stands, and the text that shows its labels."""

    where: str
    promql: str
    shown: str

    @property
    def metrics(self) -> set[str]:
        """The names of the series it reads."""
        return set(_METRIC.findall(_TEXT.sub("", self.promql)))

    @property
    def labels(self) -> set[str]:
        """The labels it selects and groups by."""
        bare = _TEXT.sub("", self.promql)
        parts = [*_SELECTOR.findall(bare), *_GROUPING.findall(bare)]
        return {word for part in parts for word in _WORD.findall(part)}

    @property
    def matchers(self) -> list[tuple[str, str]]:
        """Each label it selects by, with the value or pattern."""
        return _MATCHER.findall(self.promql)

    @property
    def shown_labels(self) -> set[str]:
        """The labels that a legend or an annotation shows."""
        return set(_SHOWN.findall(self.shown))

    def filled(self, manager: str, model: str) -> str:
        """With Grafana's variables replaced."""
        known = {"$__rate_interval": "10s", "$manager": manager, "$model": model}
        promql = self.promql
        for variable, value in known.items():
            promql = promql.replace(variable, value)
        assert "$" not in promql, "a variable that the tests do not know"
        return promql

    @property
    def value(self) -> str:
        """An alert without its final comparison: what it compares, whether it fires or not."""
        stripped, comparisons = _COMPARISON.subn("", self.promql)
        assert comparisons == 1, f"{self.where} does not end in a comparison with a number"
        return stripped


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return loaded


def panel_expressions() -> list[Expression]:
    return [
        Expression(f"{panel['title']} {target['refId']}", target["expr"], target["legendFormat"])
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    ]


def alert_expressions() -> list[Expression]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [
        Expression(rule["alert"], rule["expr"], " ".join(rule["annotations"].values()))
        for group in groups
        for rule in group["rules"]
    ]


def variables() -> dict[str, tuple[str, str]]:
    """Each query variable of the dashboard: the metric and the label whose values it lists."""
    listed = {}
    for each in dashboard()["templating"]["list"]:
        if each["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", each["query"]["query"])
            assert found is not None, each["name"]
            listed[each["name"]] = (found[1], found[2])
    return listed
