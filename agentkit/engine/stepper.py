"""The one trampoline: advances a flow effect by effect, whoever performs the effects."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Generic, TypeVar

from agentkit.errors import ProviderError

R = TypeVar("R")


class Stepper(Generic[R]):
    """A flow under way: the effect it waits for, or its result.

    Call `advance` to start, and then `advance` or `fail` for each `effect`, until `done`; then
    `result` holds what the flow returned. What the flow raises comes out of the two.
    """

    __slots__ = ("_flow", "_send", "done", "effect", "result")

    def __init__(self, flow: Generator[Any, Any, R]) -> None:
        self._flow = flow
        self._send = flow.send
        self.done = False
        self.effect: Any = None
        self.result: R

    def advance(self, value: Any = None) -> None:
        """Start the flow, or continue after an effect whose result is `value`."""
        try:
            self.effect = self._send(value)
        except StopIteration as end:
            self.done, self.effect, self.result = True, None, end.value
        except BaseException:
            self.done = True
            raise

    def fail(self, error: BaseException) -> None:
        """Continue after an effect that raised `error`."""
        try:
            self.effect = self._flow.throw(presentable(error))
        except StopIteration as end:
            self.done, self.effect, self.result = True, None, end.value
        except BaseException:
            self.done = True
            raise

    def close(self) -> None:
        """Stop here; nothing happens when the flow is over."""
        self.done = True
        self._flow.close()


def presentable(error: BaseException) -> BaseException:
    """`error`, wrapped when it would end the flow that it is thrown into."""
    if isinstance(error, StopIteration | StopAsyncIteration):
        wrapped = ProviderError(f"the callable raised {type(error).__name__}")
        wrapped.__cause__ = RuntimeError(f"{type(error).__name__} outside an iterator")
        return wrapped
    return error
