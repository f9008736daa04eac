"""What happens to a process beside its calls: forks, signals, and models that are replaced."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from agentkit import LLMManager
from benchmarks.tally import Tally

ON_SIGNAL = "on-signal"
"""The model that signal handlers call. It has no slots, which the interrupted thread might hold."""
PATIENCE = 30  # seconds after which a child that waits is killed
FORK_EVERY = 0.3
REPLACE_EVERY = 0.05
SIGNAL_EVERY = 0.15
DEEPEST = 2  # handlers that interrupt each other


class Outage:
    """Whether models misbehave. Without a lock, which a child might find taken."""

    on = False


@contextmanager
def disturb(
    manager: LLMManager,
    replace: Callable[[LLMManager, int], None],
    models: Sequence[str],
    tally: Tally,
) -> Iterator[None]:
    """Until the end of the block, fork, send signals and call `replace` with a growing number.

    Children ask each of `models`.
    """
    ended = threading.Event()

    def repeat(every: float, work: Callable[[int], object]) -> None:
        turn = 0
        while not ended.wait(every):
            work(turn)
            turn += 1

    def fork(_: int) -> None:
        tally.count("forks")
        if not _fork(manager, models):
            tally.count("children that failed")

    works = (
        (FORK_EVERY, fork),
        (REPLACE_EVERY, lambda turn: replace(manager, turn)),
        (SIGNAL_EVERY, lambda _: os.kill(os.getpid(), signal.SIGUSR1)),
    )
    threads = [threading.Thread(target=repeat, args=each) for each in works]
    handler = _handler(manager, tally)
    usual = {number: signal.signal(number, handler) for number in _SIGNALS}
    signal.setitimer(signal.ITIMER_REAL, SIGNAL_EVERY, SIGNAL_EVERY)
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, before in usual.items():
            signal.signal(number, before)


_SIGNALS = (signal.SIGALRM, signal.SIGUSR1)


def _handler(manager: LLMManager, tally: Tally) -> Callable[[int, FrameType | None], None]:
    """A signal handler that asks for metrics and makes a call."""
    nested: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        if len(nested) == DEEPEST:  # on a busy machine, signals arrive faster than handlers end
            return
        nested.append(number)
        tally.count("signals")
        try:
            manager.get_metrics()
            manager.complete(f"signal {random.random()}", model=ON_SIGNAL)
        except Exception:  # noqa: BLE001 - it is counted; raised, it would end the interrupted call
            traceback.print_exc()
            tally.count("signal handlers that failed")
        finally:
            nested.pop()

    return on_signal


def _fork(manager: LLMManager, models: Sequence[str]) -> bool:
    """Fork, and return whether the child worked and ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn beside threads
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    failed = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        _work_in_child(manager, models)
        failed = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it must not run the parent's code
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(failed)


def _work_in_child(manager: LLMManager, models: Sequence[str]) -> None:
    Outage.on = False
    own = os.getpid()
    for name in models:
        route = [name, "backup"]
        assert manager.complete(f"child {own} {name}", model=route).text
    with manager.stream(f"child {own}", model=["chunks", "backup"]) as stream:
        assert "".join(stream)
    assert asyncio.run(manager.agenerate(f"child {own}", model="backup"))
    assert manager.get_metrics()["total_requests"]
    manager.close()
    for each in threading.enumerate():
        if each is not threading.current_thread():
            each.join(PATIENCE / 3)
            assert not each.is_alive(), f"the child still runs {each.name}"
