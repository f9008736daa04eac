"""Context managers for what has `close` or `aclose`."""

from __future__ import annotations

from abc import abstractmethod
from types import TracebackType
from typing import Any, Self


class Closing:
    """Leaving a ``with`` closes it."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> Any:
        """Let go of everything. Closing twice does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClosing:
    """Leaving an ``async with`` closes it."""

    __slots__ = ()

    @abstractmethod
    async def aclose(self) -> Any:
        """Let go of everything. Closing twice does nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
