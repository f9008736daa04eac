"""The marks of servers in this process: since when each remembers everything.

See `agentkit.state.questions.mark_key`, and `agentkit.state.local`.
"""

from __future__ import annotations

from collections.abc import Callable


class LocalMarks:
    """Marks in memory; `now` is the time in milliseconds."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.server = "local"
        """The name of this server; another one after a failover."""
        self._now = now
        self._marks: dict[str, dict[str, int]] = {}
        self._last: dict[str, int] = {}

    def flush(self) -> None:
        """Lose everything."""
        self._marks.clear()
        self._last.clear()

    def read(self, key: str, known: int) -> int:
        """The mark of this server, for a process that has read `known` before (0: nothing)."""
        now = self._now()
        since = self._marks.get(key, {}).get(self.server)
        if since is None:
            return self._set(key, self.server, now if known else -now)
        if (since < 0 and known not in (0, since)) or abs(since) > now:
            return self._set(key, self.server, now)
        return since

    def since(self, key: str, server: str) -> int:
        """The mark of a server, for a process that does not say what it has read."""
        since = self._marks.get(key, {}).get(server)
        return self._set(key, server, self._now()) if since is None else since

    def last(self, key: str) -> int | None:
        """The mark of the server that was marked last."""
        return self._last.get(key)

    def _set(self, key: str, server: str, since: int) -> int:
        self._marks.setdefault(key, {})[server] = self._last[key] = since
        return since
