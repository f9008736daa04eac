"""Time that passes on demand, and a test run that writes no answers to the disk."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agentkit.testing import FakeClock


def test_it_stands_still_until_it_is_moved() -> None:
    clock = FakeClock(5.0)
    assert (clock(), clock()) == (5.0, 5.0)
    clock.advance(1.5)
    assert clock() == 6.5
    assert clock.elapsed == 1.5
    assert clock.sleeps == []


def test_a_sleep_passes_at_once_and_is_noted() -> None:
    clock = FakeClock()
    clock.sleep(2.0)
    clock.sleep(0.0)
    assert clock.elapsed == 2.0
    assert clock.sleeps == [2.0, 0.0]


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf")])
def test_it_never_goes_back_nor_away(seconds: float) -> None:
    clock = FakeClock()
    for move in (clock.advance, clock.sleep):
        with pytest.raises(ValueError, match="forward"):
            move(seconds)
    assert clock.elapsed == 0.0
    assert clock.sleeps == []


def test_no_sleep_of_many_threads_is_lost() -> None:
    clock = FakeClock(0.0)
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for _ in range(200):
            clock.sleep(1.0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock() == 1600.0
    assert len(clock.sleeps) == 1600


PROBE = """
import os
def test_probe():
    assert os.environ.get("AGENTKIT_CACHE") == {expected!r}
    assert "AGENTKIT_FLEET" not in os.environ
"""


@pytest.mark.processes
@pytest.mark.parametrize(("given", "expected"), [(None, "memory"), ("off", "off")])
def test_a_test_run_keeps_response_caches_in_memory_by_default(
    given: str | None, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "test_probe.py").write_text(PROBE.format(expected=expected))
    environment = {name: value for name, value in os.environ.items() if name != "AGENTKIT_CACHE"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    environment["AGENTKIT_FLEET"] = "valkey://store:6379/0"
    if given is not None:
        environment["AGENTKIT_CACHE"] = given
    command = [sys.executable, "-m", "pytest", "-q", "-p", "agentkit.testing.plugin", "."]
    root = Path(__file__).parents[2]
    environment["PYTHONPATH"] = str(root)
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_installing_agentkit_registers_the_plugin() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"agentkit": "agentkit.testing.plugin"}
