"""The alerts fire when they should, in the words of Prometheus' own rule tester."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dashboards.expressions import ALERTS

pytestmark = pytest.mark.processes

PROMTOOL = shutil.which("promtool")
FIRING = Path(__file__).with_name("firing.yml")


@pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)
@pytest.mark.parametrize("arguments", [("check", ALERTS), ("test", FIRING)], ids=["check", "fire"])
def test_promtool_accepts_the_alerts(arguments: tuple[str, Path]) -> None:
    assert PROMTOOL is not None
    verb, file = arguments
    command = [PROMTOOL, verb, "rules", str(file)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
