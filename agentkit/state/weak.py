"""Listens to a fleet for an object, which the fleet does not keep alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from agentkit.types.fleet import Fleet, Hear, Question


def ask_at_heartbeat(fleet: Fleet, method: Callable[[], Iterable[Any]]) -> None:
    """Ask what the bound `method` returns with each heartbeat, as long as its object lives."""
    weak = weakref.WeakMethod(method)

    def make() -> Iterable[tuple[Question, Hear | None]]:
        alive = weak()
        return () if alive is None else alive()

    fleet.at_heartbeat(make)
    _when_gone(method, fleet.stop_at_heartbeat, make)


def subscribe(fleet: Fleet, topic: str, method: Callable[[str, bytes], None]) -> None:
    """Call the bound `method` with `topic` and each message, as long as its object lives."""
    weak = weakref.WeakMethod(method)

    def receive(message: bytes) -> None:
        alive = weak()
        if alive is not None:
            alive(topic, message)

    fleet.subscribe(topic, receive)
    _when_gone(method, fleet.unsubscribe, topic, receive)


def _when_gone(method: Any, call: Callable[..., object], *args: object) -> None:
    weakref.finalize(method.__self__, call, *args).atexit = False
