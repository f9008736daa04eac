"""The inbox of a process: messages of other processes, by topic."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from agentkit._fork import fork_safe_lock
from agentkit.types.fleet import Receive

log = logging.getLogger("agentkit.fleet")

_LOOK_EVERY: Final = 1.0
"""Seconds after which the thread looks whether it should end."""


class Inbox:
    """Passes each message on to those who have subscribed to its topic.

    A message is the topic, a line break, and the rest.
    """

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._receivers: dict[str, list[Receive]] = {}
        self._source: Any = None

    @property
    def is_listening(self) -> bool:
        """Whether messages arrive."""
        return self._source is not None

    def subscribe(self, topic: str, receive: Receive) -> None:
        """Call `receive` with the rest of each message about `topic`."""
        with self._lock:
            self._receivers.setdefault(topic, []).append(receive)

    def unsubscribe(self, topic: str, receive: Receive) -> None:
        """Forget `receive`; an unknown one is ignored."""
        with self._lock:
            receivers = self._receivers.get(topic, [])
            if receive in receivers:
                receivers.remove(receive)
            if not receivers:
                self._receivers.pop(topic, None)

    def listen(self, source: Any, *, name: str, lost: Callable[[], None]) -> None:
        """Read `source`, a `PubSub` of redis-py, on a thread; call `lost` when it fails."""
        self._source = source
        threading.Thread(target=self._run, args=(source, lost), name=name, daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        source, self._source = self._source, None
        if source is not None:
            try:
                source.close()
            except Exception as error:  # noqa: BLE001  (it is given up in any case)
                log.debug("fleet: closing the inbox failed: %s", type(error).__name__)

    def receive(self, data: bytes) -> None:
        """Pass on one message."""
        topic, _, rest = data.partition(b"\n")
        with self._lock:
            receivers = tuple(self._receivers.get(topic.decode("utf-8", "replace"), ()))
        for receive in receivers:
            try:
                receive(rest)
            except Exception:
                log.exception("a message of the fleet could not be passed on")

    def _run(self, source: Any, lost: Callable[[], None]) -> None:
        try:
            while self._source is source:
                message = source.get_message(ignore_subscribe_messages=True, timeout=_LOOK_EVERY)
                if message is not None and message["type"] == "message":
                    self.receive(message["data"])
        except Exception as error:  # noqa: BLE001  (whatever the client raises is a lost inbox)
            log.debug("fleet: the inbox failed: %s", type(error).__name__)
        if self._source is source:
            self._source = None
            lost()
