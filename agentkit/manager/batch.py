"""Many requests with limited concurrency: responses and errors in the order of the requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, overload

from agentkit.errors import LLMError, RequestValidationError
from agentkit.manager.runner import arun_bounded, run_bounded
from agentkit.types import Response

Item: TypeAlias = Any
"""A prompt, a list of messages, or a dict with arguments of `complete` (the prompt as ``"prompt"``
or ``"messages"``)."""
Result: TypeAlias = "Response[Any] | LLMError"
Progress: TypeAlias = Callable[[int, int], None]
"""A function of (finished, total), called after each item, one call at a time."""


class BatchResult(Sequence["Response[Any] | LLMError"]):
    """A sequence with the response or the error of each request, in order."""

    def __init__(self, results: Sequence[Response[Any] | LLMError]) -> None:
        self._results = tuple(results)

    @property
    def responses(self) -> list[Response[Any]]:
        """The responses, without the errors."""
        return [each for each in self._results if isinstance(each, Response)]

    @property
    def errors(self) -> list[LLMError]:
        """The errors, without the responses."""
        return [each for each in self._results if isinstance(each, LLMError)]

    def raise_for_errors(self) -> None:
        """Raise an `ExceptionGroup` of the errors, if there are any."""
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
    """The prompt and the keyword arguments of an item.

    Raises:
        RequestValidationError: a dict has no prompt.
    """
    if not isinstance(item, Mapping):
        return item, {}
    rest = dict(item)
    for name in ("prompt", "messages"):
        if name in rest:
            return rest.pop(name), rest
    raise RequestValidationError(
        f"a batch item has no prompt, only {sorted(map(str, rest))}",
        hint='pass the prompt as "prompt" or "messages"',
    )


def run_batch(
    complete: Callable[..., Response[Any]],
    items: Iterable[Item],
    *,
    max_concurrency: int,
    on_progress: Progress | None,
) -> BatchResult:
    """Run `complete` for each of `items`, on threads of its own."""
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
    """Run `acomplete` for each of `items`, as tasks, which are cancelled together with it."""
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
        """Keep the result of item `index`, and report the progress."""
        self.results[index] = result
        self._finished += 1
        if self._on_progress is not None:
            self._on_progress(self._finished, len(self.items))
