"""The stepper: advances a flow from effect to effect. Each driver performs the effects itself."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Generic, TypeVar

from agentkit.errors import ProviderError

R = TypeVar("R")


class Stepper(Generic[R]):
    """A running flow: the effect that it waits for, or its result.

    Call `advance` to start, and then `advance` or `fail` for each `effect`, until `done`; then
    `result` is what the flow returned. Both methods raise what the flow raises.
    """

    __slots__ = ("_flow", "_send", "done", "effect", "result")

    def __init__(self, flow: Generator[Any, Any, R]) -> None:
        self._flow = flow
        self._send = flow.send
        self.done = False
        self.effect: Any = None
        self.result: R

    def advance(self, value: Any = None) -> None:
        """Start the flow, or continue it with `value`, the result of the effect."""
        try:
            self.effect = self._send(value)
        except StopIteration as end:
            self.done, self.effect, self.result = True, None, end.value
        except BaseException:
            self.done = True
            raise

    def fail(self, error: BaseException) -> None:
        """Continue the flow with `error`, which the effect raised."""
        try:
            self.effect = self._flow.throw(presentable(error))
        except StopIteration as end:
            self.done, self.effect, self.result = True, None, end.value
        except BaseException:
            self.done = True
            raise

    def close(self) -> None:
        """Stop the flow, unless it is over."""
        if not self.done:
            self.done = True
            self._flow.close()


def presentable(error: BaseException) -> BaseException:
    """`error`, wrapped if it would end the flow that it is thrown into."""
    if isinstance(error, StopIteration | StopAsyncIteration):
        wrapped = ProviderError(f"the callable raised {type(error).__name__}")
        wrapped.__cause__ = RuntimeError(f"{type(error).__name__} outside an iterator")
        return wrapped
    return error
