"""The life cycle of an agent: four states, and one table of the transitions."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from agentkit._fork import fork_safe_lock
from agentkit.errors import AgentStateError

State: TypeAlias = Literal["initialized", "running", "paused", "stopped"]
Action: TypeAlias = Literal["start", "pause", "resume", "stop"]

TRANSITIONS: Final[dict[State, dict[Action, State]]] = {
    "initialized": {"start": "running", "stop": "stopped"},
    "running": {"pause": "paused", "stop": "stopped"},
    "paused": {"resume": "running", "stop": "stopped"},
    "stopped": {"start": "running"},
}
"""The actions that each state allows, and where they lead; all others are refused."""


class Lifecycle:
    """The state of one agent; safe to use from any thread. `name` is for messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._state: State = "initialized"
        self._lock = fork_safe_lock()

    @property
    def state(self) -> State:
        """The current state."""
        return self._state

    def apply(self, action: Action) -> None:
        """Move to the state that `action` leads to.

        Raises:
            AgentStateError: the current state does not allow it; nothing has changed.
        """
        with self._lock:
            following = TRANSITIONS[self._state].get(action)
            if following is None:
                raise self._refusal(action, self._state)
            self._state = following

    def require_running(self, what: str) -> None:
        """Check that the agent is running; `what` is for the message.

        Raises:
            AgentStateError: it is in another state.
        """
        state = self._state
        if state != "running":
            raise self._refusal(what, state)

    def _refusal(self, what: str, state: State) -> AgentStateError:
        allowed = ", ".join(f"{action}()" for action in TRANSITIONS[state])
        return AgentStateError(
            f"agent {self._name!r} is {state}: {what}() is not allowed",
            hint=f"{state} allows {allowed}" + ("" if state == "running" else _way_back(state)),
        )


def _way_back(state: State) -> str:
    action = next(each for each, to in TRANSITIONS[state].items() if to == "running")
    return f"; {action}() makes it run"
