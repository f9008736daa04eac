"""A forked child has its own locks, so a lock held elsewhere at the fork stops nothing there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

CHILD = """
import os, signal
from agentkit.agent.agent import Agent

agent = Agent("helper", "tester")
agent.start()
agent.execute_task(int)
with agent._lifecycle._lock, agent._performance._lock:
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        agent.execute_task(int)
        agent.stop()
        done = agent.get_performance_metrics()["successful_tasks"] == 2
        os._exit(0 if done and agent.status == "stopped" else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_a_child_goes_on_with_the_state_and_counters_of_its_parent() -> None:
    run = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
