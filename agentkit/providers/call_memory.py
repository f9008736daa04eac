"""Memory of opaque data that a provider sends with a tool call and requires back."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

from agentkit._fork import fork_safe_lock

T = TypeVar("T")
_MAX_CALLS: Final = 4096


class CallMemory(Generic[T]):
    """What came with the latest 4,096 tool calls, by the id of the call. Thread-safe."""

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._by_id: OrderedDict[str, T] = OrderedDict()

    def remember(self, call_id: str, what: T) -> None:
        """Keep what came with a call."""
        with self._lock:
            self._by_id[call_id] = what
            if len(self._by_id) > _MAX_CALLS:
                self._by_id.popitem(last=False)

    def recall(self, call_id: str) -> T | None:
        """What came with a call; None if nothing did, or the call is too old."""
        return self._by_id.get(call_id)
