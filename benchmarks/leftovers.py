"""What calls leave behind: in the process, and in a manager."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentkit import Budget, CircuitBreaker, LLMManager, Usage
from agentkit.engine.attempt import Attempt
from agentkit.engine.shared_call import SharedCall
from agentkit.policy.budget import Spending
from agentkit.policy.limits import Need, Pool
from agentkit.policy.price import Price
from agentkit.policy.target import Target
from benchmarks.measure import Figures

RESIDENT_THREADS = 2
"""Threads of a manager that never end by themselves: its event loop and its watchdog."""
REST = 60.0
"""The most seconds that idle worker threads are waited for; they end after 30."""


class CountedBudget(Budget):
    """A budget that knows which reservations were not settled."""

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens=tokens)
        self.reserved: dict[int, Spending] = {}

    def reserve(self, need: Need, price: Price | None, model: str) -> Spending:
        spending = super().reserve(need, price, model)
        self.reserved[id(spending)] = spending
        return spending

    def settle(self, spending: Spending, usage: Usage | None, price: Price | None = None) -> None:
        super().settle(spending, usage, price)
        self.reserved.pop(id(spending), None)


class Leftovers:
    """Compares the process with what it was when this was created."""

    def __init__(self) -> None:
        self._threads = threading.active_count()
        self._descriptors = _descriptors()
        self._resident = 0.0
        self._blocks = 0

    def warmed_up(self) -> None:
        """Measure growth from here."""
        self._rest()
        self._resident = _resident()
        self._blocks = sys.getallocatedblocks()

    def growth(self) -> Figures:
        """Growth of memory since the warm-up, both times without idle worker threads.

        Resident memory, in MB, also counts what the allocator keeps for later. The blocks that
        Python has allocated count what is in use: one object left by each call would be one block
        a call.
        """
        self._rest()
        return {
            "growth_mb": _resident() - self._resident,
            "growth_blocks": sys.getallocatedblocks() - self._blocks,
        }

    def _rest(self) -> None:
        """Wait until idle worker threads have ended: each has memory and a database open."""
        _wait_until(lambda: threading.active_count() <= self._threads + RESIDENT_THREADS, REST)

    def inside(self, manager: LLMManager, budget: CountedBudget) -> Figures:
        """What is left in `manager` while no call is under way."""
        gc.collect()
        targets, pools = _living(Target), _living(Pool)
        breakers = [each.statistics() for each in _living(CircuitBreaker)]
        return {
            "permits_left": sum(pool.in_use for pool in pools),
            "probes_left": sum(each.probing + each.waiting for each in breakers),
            "reservations_left": len(budget.reserved),
            "attempts_left": len(_living(Attempt)),
            "shared_calls_left": len(_living(SharedCall)),
            "replaced_left": len(targets) - len(manager.registry.targets),
        }

    def outside(self) -> Figures:
        """What is left in the process after the manager was closed."""
        gc.collect()
        _wait_until(lambda: threading.active_count() <= self._threads, 5)
        return {
            "threads_left": threading.active_count() - self._threads,
            "descriptors_left": _descriptors() - self._descriptors,
        }


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.perf_counter() + seconds
    while not condition() and time.perf_counter() < deadline:
        time.sleep(0.01)


def _living(kind: type) -> list[Any]:
    return [each for each in gc.get_objects() if type(each) is kind]


def _resident() -> float:
    """Resident memory in MB after all free memory was returned to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
