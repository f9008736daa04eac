"""The journal of a run: a protocol of two methods, and the recorder through which a run uses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from agentkit.errors import JournalError
from agentkit.types.json_values import UNREADABLE

V = TypeVar("V")


@runtime_checkable
class Journal(Protocol):
    """Records the steps of a run, and returns them when the run starts again.

    Implement it with the durable steps of a workflow engine (Temporal, Restate, DBOS) to run an
    agent inside a workflow. The names of steps are unique in a run. Names and order are the same
    whenever the run starts again, because most engines number steps; tool calls of one response
    therefore run one after another. If your journal finds steps by name, in any order, set its
    attribute ``concurrent = True``, and they run concurrently.
    """

    def step(self, name: str, do: Callable[[], Any]) -> Any:
        """Return the recorded value of the step `name`; if there is none, record that of `do()`.

        The value consists of types that JSON can hold. It must be stored durably before this
        returns. If `do` raises, record nothing.
        """
        ...

    async def astep(self, name: str, do: Callable[[], Awaitable[Any]]) -> Any:
        """Like `step`, for asyncio. With `concurrent`, several steps may run at the same time."""
        ...


class Codec(Generic[V]):
    """How the values of one kind of step become JSON data, and values again."""

    __slots__ = ("decode", "encode")

    def __init__(self, encode: Callable[[V], Any], decode: Callable[[Any], V]) -> None:
        self.encode = encode
        self.decode = decode

    def record(self, name: str, value: V) -> Any:
        """`value` as JSON data. Raises `JournalError` if JSON cannot hold it."""
        try:
            return self.encode(value)
        except TypeError as error:
            raise JournalError(
                f"step {name} cannot be recorded: {error}",
                hint="use arguments and results that JSON can hold",
            ) from error

    def value(self, name: str, recorded: Any) -> V:
        """The recorded value. Raises `JournalError` if it was not recorded by this class."""
        try:
            return self.decode(recorded)
        except UNREADABLE as error:
            raise JournalError(
                f"the record of step {name} cannot be read: {error}",
                hint="resume the run with the release that recorded it, or a newer one",
            ) from error


class Recorder:
    """Performs steps: through the journal, or directly if there is none."""

    def __init__(self, journal: Journal | None) -> None:
        self.active = journal is not None
        """Whether steps are recorded."""
        self.concurrent = journal is None or getattr(journal, "concurrent", False) is True
        """Whether several steps may be under way at once."""
        self._journal = journal

    def step(self, name: str, do: Callable[[], V], codec: Codec[V]) -> V:
        """The value of `do()`, or the recorded one."""
        if self._journal is None:
            return do()
        fresh: list[V] = []

        def encoded() -> Any:
            fresh.append(do())
            return codec.record(name, fresh[0])

        recorded = self._journal.step(name, encoded)
        return fresh[0] if fresh else codec.value(name, recorded)

    async def astep(self, name: str, do: Callable[[], Awaitable[V]], codec: Codec[V]) -> V:
        """Like `step`, for asyncio."""
        if self._journal is None:
            return await do()
        fresh: list[V] = []

        async def encoded() -> Any:
            fresh.append(await do())
            return codec.record(name, fresh[0])

        recorded = await self._journal.astep(name, encoded)
        return fresh[0] if fresh else codec.value(name, recorded)

    def must_collect(self, name: str) -> bool:
        """Whether the step may be recorded already, so that nothing of it can be shown early."""
        has = getattr(self._journal, "has", None)
        return self._journal is not None and (has is None or has(name))

    async def first(self, name: str) -> bool:
        """Whether this is the first time that the run comes to the point `name`.

        Without a journal it always is.
        """
        if self._journal is None:
            return True
        fresh = False

        async def note() -> bool:
            nonlocal fresh
            fresh = True
            return True

        await self._journal.astep(name, note)
        return fresh
