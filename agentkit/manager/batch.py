"""Many requests with bounded concurrency; results in order, failures kept beside answers."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import copy_context
from typing import Any, TypeAlias, overload

from agentkit._fork import fork_safe_lock
from agentkit.errors import LLMError, RequestValidationError
from agentkit.policy.validation import whole
from agentkit.types import Response

Item: TypeAlias = Any
"""A prompt, a list of messages, or a dict of `complete`'s arguments (the prompt under
``"prompt"`` or ``"messages"``)."""
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (finished, total) after each item, one call at a time."""


class BatchResult(Sequence["Response[Any] | LLMError"]):
    """What became of each request, in the order given."""

    def __init__(self, results: Sequence[Response[Any] | LLMError]) -> None:
        self._results = tuple(results)

    @property
    def responses(self) -> list[Response[Any]]:
        """The answers, failures left out."""
        return [each for each in self._results if isinstance(each, Response)]

    @property
    def errors(self) -> list[LLMError]:
        """The failures."""
        return [each for each in self._results if isinstance(each, LLMError)]

    def raise_for_errors(self) -> None:
        """Raise an `ExceptionGroup` of the failures, if there are any."""
        if self.errors:
            raise ExceptionGroup(f"{len(self.errors)} of {len(self)} requests failed", self.errors)

    @overload
    def __getitem__(self, index: int) -> Response[Any] | LLMError: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Response[Any] | LLMError]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        return f"<BatchResult {len(self.responses)} answered, {len(self.errors)} failed>"


def arguments(item: Item) -> tuple[Any, dict[str, Any]]:
    """The prompt and the keyword arguments of one item.

    Raises:
        RequestValidationError: a dict without a prompt.
    """
    if not isinstance(item, Mapping):
        return item, {}
    rest = dict(item)
    for name in ("prompt", "messages"):
        if name in rest:
            return rest.pop(name), rest
    raise RequestValidationError(
        f"a batch item has no prompt, only {sorted(map(str, rest))}",
        hint='put the prompt under "prompt" (or "messages")',
    )


class _Tally:
    """Hands out the items one by one and collects what became of them."""

    def __init__(self, items: Iterable[Item], on_progress: Progress | None) -> None:
        self.items = list(items)
        self.results: list[Any] = [None] * len(self.items)
        self.stop = False
        self.broken: BaseException | None = None
        self._next: Iterator[int] = iter(range(len(self.items)))
        self._finished = 0
        self._on_progress = on_progress
        self._lock = fork_safe_lock()

    def take(self) -> int | None:
        """The index of the next item, or None."""
        with self._lock:
            return None if self.stop else next(self._next, None)

    def put(self, index: int, result: Response[Any] | LLMError) -> None:
        """Item `index` is done."""
        with self._lock:
            self.results[index] = result
            self._finished += 1
            if self._on_progress is not None:
                self._on_progress(self._finished, len(self.items))


def run_batch(
    complete: Callable[..., Response[Any]],
    items: Iterable[Item],
    *,
    max_concurrency: int,
    on_progress: Progress | None,
) -> BatchResult:
    """Run `complete` over `items` on threads of their own; an interrupt stops handing out."""
    tally = _Tally(items, on_progress)

    def work() -> None:
        try:
            while (index := tally.take()) is not None:
                try:
                    prompt, options = arguments(tally.items[index])
                    result: Response[Any] | LLMError = complete(prompt, **options)
                except LLMError as error:
                    result = error
                tally.put(index, result)
        except BaseException as error:
            tally.stop, tally.broken = True, error

    count = min(whole("max_concurrency", max_concurrency), len(tally.items))
    threads = [
        threading.Thread(
            target=copy_context().run, args=(work,), name="agentkit-batch", daemon=True
        )
        for _ in range(count)
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        tally.stop = True
    if tally.broken is not None:
        raise tally.broken
    return BatchResult(tally.results)


async def arun_batch(
    acomplete: Callable[..., Awaitable[Response[Any]]],
    items: Iterable[Item],
    *,
    max_concurrency: int,
    on_progress: Progress | None,
) -> BatchResult:
    """Run `acomplete` over `items` as tasks; cancelling it cancels what is under way."""
    import asyncio

    tally = _Tally(items, on_progress)

    async def work() -> None:
        try:
            while (index := tally.take()) is not None:
                try:
                    prompt, options = arguments(tally.items[index])
                    result: Response[Any] | LLMError = await acomplete(prompt, **options)
                except LLMError as error:
                    result = error
                tally.put(index, result)
        except Exception as error:
            tally.stop, tally.broken = True, error

    count = min(whole("max_concurrency", max_concurrency), len(tally.items))
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(work())
    if tally.broken is not None:
        raise tally.broken
    return BatchResult(tally.results)
