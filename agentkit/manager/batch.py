"""Many requests with bounded concurrency; results in order, failures kept beside answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, overload

from agentkit.errors import LLMError, RequestValidationError
from agentkit.manager.runner import arun_bounded, run_bounded
from agentkit.types import Response

Item: TypeAlias = Any
"""A prompt, a list of messages, or a dict of `complete`'s arguments (the prompt under
``"prompt"`` or ``"messages"``)."""
Result: TypeAlias = "Response[Any] | LLMError"
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


def run_batch(
    complete: Callable[..., Response[Any]],
    items: Iterable[Item],
    *,
    max_concurrency: int,
    on_progress: Progress | None,
) -> BatchResult:
    """Run `complete` over `items` on threads of their own."""
    batch = _Batch(items, on_progress)

    def call(index: int) -> Result:
        try:
            prompt, options = arguments(batch.items[index])
            return complete(prompt, **options)
        except LLMError as error:
            return error

    run_bounded(
        call,
        range(len(batch.items)),
        batch.keep,
        max_concurrency=max_concurrency,
        name="agentkit-batch",
    )
    return BatchResult(batch.results)


async def arun_batch(
    acomplete: Callable[..., Awaitable[Response[Any]]],
    items: Iterable[Item],
    *,
    max_concurrency: int,
    on_progress: Progress | None,
) -> BatchResult:
    """Run `acomplete` over `items` as tasks; cancelling it cancels what is in progress."""
    batch = _Batch(items, on_progress)

    async def call(index: int) -> Result:
        try:
            prompt, options = arguments(batch.items[index])
            return await acomplete(prompt, **options)
        except LLMError as error:
            return error

    await arun_bounded(call, range(len(batch.items)), batch.keep, max_concurrency=max_concurrency)
    return BatchResult(batch.results)


class _Batch:
    """The items of a batch, and their results so far."""

    def __init__(self, items: Iterable[Item], on_progress: Progress | None) -> None:
        self.items = list(items)
        self.results: list[Any] = [None] * len(self.items)
        self._finished = 0
        self._on_progress = on_progress

    def keep(self, index: int, result: Result) -> None:
        """Item `index` is finished."""
        self.results[index] = result
        self._finished += 1
        if self._on_progress is not None:
            self._on_progress(self._finished, len(self.items))
