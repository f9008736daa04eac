"""The one trampoline: advances a flow effect by effect, whoever performs the effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from agentkit.engine.effects import Flow
from agentkit.errors import ProviderError

R = TypeVar("R")


class Stepper(Generic[R]):
    """A flow under way: the effect it waits for, or its result.

    Call `start`, then `resolve` or `fail` for each `effect`, until `done`; then `result` holds what
    the flow returned. What the flow raises comes out of the three.
    """

    __slots__ = ("_flow", "done", "effect", "result", "started")

    def __init__(self, flow: Flow[R]) -> None:
        self._flow = flow
        self.started = False
        self.done = False
        self.effect: Any = None
        self.result: R

    def start(self) -> None:
        """Run the flow to its first effect."""
        self.started = True
        self._advance(self._flow.send, None)

    def resolve(self, value: Any) -> None:
        """The effect was performed, with the result `value`."""
        self._advance(self._flow.send, value)

    def fail(self, error: BaseException) -> None:
        """The effect raised `error`."""
        self._advance(self._flow.throw, presentable(error))

    def close(self) -> None:
        """Stop here; nothing happens when the flow is over."""
        self.done = True
        self._flow.close()

    def _advance(self, step: Callable[[Any], Any], value: Any) -> None:
        try:
            self.effect = step(value)
        except StopIteration as end:
            self.done, self.effect, self.result = True, None, end.value
        except BaseException:
            self.done = True
            raise


def presentable(error: BaseException) -> BaseException:
    """`error`, wrapped when it would end the flow that it is thrown into."""
    if isinstance(error, StopIteration | StopAsyncIteration):
        wrapped = ProviderError(f"the callable raised {type(error).__name__}")
        wrapped.__cause__ = RuntimeError(f"{type(error).__name__} outside an iterator")
        return wrapped
    return error
