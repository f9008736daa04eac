"""What a provider wants back with a tool call and `ToolCall` has no place for."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

from agentkit._fork import fork_safe_lock

T = TypeVar("T")
_MOST: Final = 4096


class Recall(Generic[T]):
    """What came with tool calls, by a call's id: the latest 4,096. Safe to use from threads."""

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._known: OrderedDict[str, T] = OrderedDict()

    def keep(self, call_id: str, what: T) -> None:
        """Remember what came with a call."""
        with self._lock:
            self._known[call_id] = what
            if len(self._known) > _MOST:
                self._known.popitem(last=False)

    def of(self, call_id: str) -> T | None:
        """What came with that call, if it is known."""
        return self._known.get(call_id)
