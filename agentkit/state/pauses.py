"""The pause that a provider asks for, of a model that has no limits which a fleet could share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from agentkit.state import quota_questions, weak
from agentkit.state.quota_questions import QuotaKeys
from agentkit.types.fleet import Fleet, Hear, Question


class SharedPause:
    """The pause of one key; processes that share the limits of the key share it, too.

    Args:
        fleet: the processes.
        keys: those of the provider.
        name: a digest of the key.
        hear: called with the seconds for which another process was asked to pause.
    """

    def __init__(
        self, fleet: Fleet, keys: QuotaKeys, name: str, hear: Callable[[float], None]
    ) -> None:
        self._fleet = fleet
        self._keys = keys
        self._name = name
        self._hear = hear
        self._process = ""
        """The process that has subscribed; another one in a forked child."""
        self._session = fleet.session
        weak.ask_at_heartbeat(fleet, self._questions)
        self._subscribe()
        fleet.post(*self._question())

    def report(self, seconds: float) -> None:
        """The provider asks for a pause."""
        self._fleet.post(quota_questions.pause(self._keys, self._name, seconds))

    def _questions(self) -> Iterator[tuple[Question, Hear | None]]:
        """Ask again if messages may have been lost."""
        self._subscribe()
        session = self._fleet.session
        if session != self._session:
            self._session = session
            yield self._question()

    def _question(self) -> tuple[Question, Hear]:
        return quota_questions.pause(self._keys, self._name), self._hear_reply

    def _subscribe(self) -> None:
        process = self._fleet.process
        if process != self._process:
            self._process = process
            weak.subscribe(self._fleet, self._keys.topic(self._name), self._receive)

    def _hear_reply(self, milliseconds: Any) -> None:
        if milliseconds:
            self._hear(milliseconds / 1000)

    def _receive(self, _topic: str, message: bytes) -> None:
        report = quota_questions.read_report(message)
        if report is not None:
            self._hear_reply(report.pause)
