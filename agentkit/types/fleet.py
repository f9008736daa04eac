"""The protocol of a fleet: processes that share a store, and ask it through the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeAlias

from agentkit.types.provider import Signal
from agentkit.types.response import Response

Argument: TypeAlias = "str | bytes | int"
Receive: TypeAlias = Callable[[bytes], None]
Hear: TypeAlias = Callable[[Any], None]


class Question(NamedTuple):
    """A call of one of the functions of `agentkit.state` over shared state."""

    function: str
    keys: tuple[str, ...]
    args: tuple[Argument, ...]
    retry: bool = False
    """Whether to wait twice as long for a late reply, and to ask again if the connection broke.

    The store may then have been asked twice.
    """
    undo: Question | None = None
    """Takes back what a reply granted to a caller that no longer waits for it."""


MakeQuestions: TypeAlias = Callable[[], "Iterable[tuple[Question, Hear | None]]"]


class Fleet(Protocol):
    """The processes that share one store.

    No method raises because of the store, or waits for it longer than 250 ms. None as a reply
    means that there is none, so that the process has to decide alone.
    """

    @property
    def process(self) -> str:
        """The name of this process in the fleet, and of the channel on which it gets messages."""
        ...

    @property
    def processes(self) -> int:
        """Live processes of the fleet when they were last counted, at least 1."""
        ...

    @property
    def session(self) -> int:
        """Grows whenever questions or replies may have been lost."""
        ...

    @property
    def is_up(self) -> bool:
        """Whether the store answers, as far as this process knows.

        If it does, a reply that is late is so because this process is.
        """
        ...

    @property
    def lost_for(self) -> float:
        """Seconds since the store was lost; 0.0 while it answers or has not been reached yet."""
        ...

    @property
    def is_cluster(self) -> bool:
        """Whether the store consists of several servers, each of which has some of the keys."""
        ...

    @property
    def mark(self) -> int:
        """The mark of the store that was read last; see `agentkit.state.questions.mark_key`."""
        ...

    def ask(self, question: Question) -> Any:
        """The reply, or None."""
        ...

    async def aask(self, question: Question) -> Any:
        """Like `ask`, for asyncio."""
        ...

    def post(self, question: Question, hear: Hear | None = None) -> None:
        """Ask without waiting; `hear` gets the reply, or None, on any thread."""
        ...

    def catch_up(self) -> None:
        """Read the replies to what was posted, on this thread, which is about to wait for one.

        Without that, another thread reads them, a little later.
        """
        ...

    def subscribe(self, topic: str, receive: Receive) -> None:
        """Call `receive` with each message about `topic`, on a thread of the fleet."""
        ...

    def unsubscribe(self, topic: str, receive: Receive) -> None:
        """Forget `receive`."""
        ...

    def lead(self, question: Question, release: Question) -> None:
        """Ask `question` once a second, which renews a lease, until `stop_leading`.

        If the fleet is closed before that, `release` is asked, so that no process has to wait for
        the end of the lease.
        """
        ...

    def stop_leading(self, question: Question) -> None:
        """Forget `question`."""
        ...

    def soon(self, make: MakeQuestions, seconds: float = 0.01) -> None:
        """After `seconds`, ask what `make` returns; once, however often it is called until then.

        While the store is lost, nothing happens.
        """
        ...

    def at_heartbeat(self, make: MakeQuestions) -> None:
        """With each heartbeat, once a second, ask what `make` returns, on a thread of the fleet.

        Each question comes with a function that gets the reply, or None. `make` must not raise.
        """
        ...

    def stop_at_heartbeat(self, make: MakeQuestions) -> None:
        """Forget `make`."""
        ...


class Claim(Protocol):
    """The claim of one call on the upstream call that identical requests of a fleet share.

    A step of it is a response, or an error of another process, a float, which is the number of
    seconds to wait for `news`, or None: make the upstream call.
    """

    @property
    def question(self) -> Question:
        """Asks for the response, or for the lead of the upstream call."""
        ...

    @property
    def news(self) -> Signal:
        """Fires when another process has sent an outcome."""
        ...

    def step(self, reply: Any) -> Response[Any] | Exception | float | None:
        """The step after `reply` to the question."""
        ...

    def step_after_news(self) -> Response[Any] | Exception | float | None:
        """The step after `news`."""
        ...

    def close(self, outcome: Response[Any] | Exception | None) -> None:
        """End the claim, with the outcome for the other processes; None: one of them takes over."""
        ...


class SharedResponses(Protocol):
    """The responses that a fleet shares."""

    def claim(self, key: str) -> Claim:
        """A claim on the upstream call with this key of the response cache."""
        ...
