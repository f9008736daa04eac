"""Streams for their consumers, sync and async, over a flow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, Protocol

from agentkit.engine.drivers.runtime import Runtime
from agentkit.engine.drivers.sync import SyncDriver
from agentkit.engine.drivers.tracebacks import shorten
from agentkit.engine.effects import Emit, Flow
from agentkit.engine.stepper import Stepper
from agentkit.errors import ConfigurationError, LLMError
from agentkit.types import Response, StreamEvent, TextDelta
from agentkit.types.context import AsyncClosing, Closing
from agentkit.types.response import T_co

if TYPE_CHECKING:
    from agentkit.engine.drivers.asyncio import AsyncioDriver


class PartialBuilder(Protocol):
    """Builds partial instances from events. Each method returns a tuple of one instance or none."""

    def add(self, event: StreamEvent) -> tuple[Any, ...]:
        """The instance after `event`."""
        ...

    def complete(self, response: Response[Any]) -> tuple[Any, ...]:
        """The validated instance at the end."""
        ...


class _StreamState(Generic[T_co]):
    """The common part of sync and async streams: the flow and its response."""

    def __init__(
        self,
        flow: Flow[Response[Any]],
        *,
        text: bool = True,
        partial_builder: PartialBuilder | None = None,
    ) -> None:
        self._stepper = Stepper(flow)
        self._text = text
        self._builder = partial_builder
        self._arrived: Iterator[StreamEvent] = iter(())
        """Events that arrived together, and are still to be passed on."""

    @property
    def response(self) -> Response[T_co]:
        """The complete response.

        Raises:
            LLMError: the stream has not been read to its end.
        """
        if not self._complete():
            raise LLMError(
                "the stream has no complete response",
                hint="read it to its end before you use .response",
            )
        return self._stepper.result

    def _require_builder(self) -> PartialBuilder:
        if self._builder is None:
            raise ConfigurationError(
                "the stream has no type for partial instances",
                hint="pass response_model= to stream() or astream()",
            )
        return self._builder

    def _complete(self) -> bool:
        return hasattr(self._stepper, "result")

    def _check_text(self) -> None:
        """Raise if the stream may restart: its text cannot be taken back, so it has events only."""
        if not self._text:
            raise LLMError(
                "a stream with on_interrupt='restart' cannot be read as plain text",
                hint="iterate over .events() and discard the text so far at a Restart",
            )

    def __repr__(self) -> str:
        state = "complete" if self._complete() else "over" if self._stepper.done else "open"
        return f"<{type(self).__name__} {state}>"


class Stream(_StreamState[T_co], Closing):
    """A sync stream: iterate over it for text, or over `events()` for typed events.

    Use it as a context manager if you may not read it to its end. After the end, `response` is the
    complete response.
    """

    def __init__(
        self,
        flow: Flow[Response[Any]],
        runtime: Runtime,
        *,
        text: bool = True,
        partial_builder: PartialBuilder | None = None,
    ) -> None:
        super().__init__(flow, text=text, partial_builder=partial_builder)
        self._driver = SyncDriver(runtime)

    def __iter__(self) -> Iterator[str]:
        self._check_text()
        return self._texts()

    def __next__(self) -> str:
        self._check_text()
        return next(self._texts())

    def _texts(self) -> Iterator[str]:
        while (event := self._advance()) is not None:
            if isinstance(event, TextDelta) and event.text:
                yield event.text

    def events(self) -> Iterator[StreamEvent]:
        """Yield the events as they arrive: `TextDelta`, `Restart`, and an `End` at the end."""
        while (event := self._advance()) is not None:
            yield event

    def partials(self) -> Iterator[T_co]:
        """Yield instances of the `response_model` with the fields that have arrived so far.

        Fields that are complete and valid are set; others have their default, or None. After a
        `Restart` all fields are empty again. The last instance is validated, and the same as
        ``.response.parsed``.
        Beyond 4,096 characters there is a new instance each time the text has grown by 1/64.

        Raises:
            ConfigurationError: the stream has no `response_model`.
            StructuredOutputError: the complete response does not match. `raw` is its text.
        """
        return self._partials(self._require_builder())

    def _partials(self, builder: PartialBuilder) -> Iterator[T_co]:
        while (event := self._advance()) is not None:
            yield from builder.add(event)
        yield from builder.complete(self.response)

    def _advance(self) -> StreamEvent | None:
        event = next(self._arrived, None)
        if event is not None or self._stepper.done:
            return event
        try:
            events = self._driver.advance(self._stepper)
            if events is None:
                self._driver.close()
                return None
            self._arrived = iter(events)
            return next(self._arrived)
        except LLMError as error:
            self.close()
            shorten(error)
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the stream and release everything. Closing twice does nothing."""
        self._arrived = iter(())
        self._stepper.close()
        self._driver.close()


class AsyncStream(_StreamState[T_co], AsyncClosing):
    """An async stream: iterate over it for text, or over `events()` for typed events.

    Use it as an async context manager if you may not read it to its end. After the end, `response`
    is the complete response.
    """

    def __init__(
        self,
        flow: Flow[Response[Any]],
        runtime: Runtime,
        *,
        text: bool = True,
        partial_builder: PartialBuilder | None = None,
    ) -> None:
        super().__init__(flow, text=text, partial_builder=partial_builder)
        self._runtime = runtime
        self._driver: AsyncioDriver | None = None

    def __aiter__(self) -> AsyncIterator[str]:
        self._check_text()
        return self

    async def __anext__(self) -> str:
        self._check_text()
        for arrived in self._arrived:  # without a coroutine for each
            if isinstance(arrived, TextDelta) and arrived.text:
                return arrived.text
        while True:
            event = await self._next_event()
            if isinstance(event, TextDelta) and event.text:
                return event.text

    def events(self) -> AsyncIterator[StreamEvent]:
        """Yield the events as they arrive: `TextDelta`, `Restart`, and an `End` at the end."""
        return _Events(self)

    def partials(self) -> AsyncIterator[T_co]:
        """Like `Stream.partials`, for ``async for``."""
        return _Partials(self, self._require_builder())

    async def _next_event(self) -> StreamEvent:
        """Raises StopAsyncIteration at the end."""
        for arrived in self._arrived:
            return arrived
        if self._stepper.done:
            raise StopAsyncIteration
        driver, stepper = self._driver or self._new_driver(), self._stepper
        try:
            stepper.advance()
            while not stepper.done:
                effect = stepper.effect
                if type(effect) is Emit:
                    self._arrived = iter(effect.events)
                    return next(self._arrived)
                try:
                    result = driver.handlers[type(effect)](driver, effect)
                    if type(result) is CoroutineType:
                        result = await result
                except BaseException as error:
                    stepper.fail(error)
                else:
                    stepper.advance(result)
            await driver.close()
        except LLMError as error:
            await self.aclose()
            shorten(error)
            raise
        except BaseException:
            await self.aclose()
            raise
        raise StopAsyncIteration

    def _new_driver(self) -> AsyncioDriver:
        from agentkit.engine.drivers.asyncio import AsyncioDriver, require_asyncio

        require_asyncio()
        self._driver = AsyncioDriver(self._runtime)
        return self._driver

    async def aclose(self) -> None:
        """Stop the stream and release everything. Closing twice does nothing."""
        self._arrived = iter(())
        self._stepper.close()
        if self._driver is not None:
            await self._driver.close()


class _Events:
    """The typed events of an `AsyncStream`."""

    __slots__ = ("_stream",)

    def __init__(self, stream: AsyncStream) -> None:
        self._stream = stream

    def __aiter__(self) -> _Events:
        return self

    def __anext__(self) -> Coroutine[Any, Any, StreamEvent]:
        return self._stream._next_event()


class _Partials:
    """The partial instances of an `AsyncStream`."""

    __slots__ = ("_builder", "_over", "_stream")

    def __init__(self, stream: AsyncStream, builder: PartialBuilder) -> None:
        self._stream = stream
        self._builder = builder
        self._over = False

    def __aiter__(self) -> _Partials:
        return self

    async def __anext__(self) -> Any:
        while not self._over:
            try:
                event = await self._stream._next_event()
            except StopAsyncIteration:
                self._over = True
                instances = self._builder.complete(self._stream.response)
            else:
                instances = self._builder.add(event)
            if instances:
                return instances[0]
        raise StopAsyncIteration
