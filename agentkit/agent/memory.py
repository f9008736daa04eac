"""The conversation that an agent remembers, within limits."""

from __future__ import annotations

from collections.abc import Sequence

from agentkit._fork import fork_safe_lock
from agentkit.policy.limits import estimate_need
from agentkit.policy.validation import whole_number
from agentkit.types import Message, MessageRole, Request


class Memory:
    """A conversation that forgets its oldest turns when it grows too long.

    A turn is a user message and everything up to the next one: answers, tool calls and their
    results stay together. System messages are never forgotten and come first. The newest turn is
    always kept, even if it exceeds the limits on its own: without it there is nothing to answer.
    Safe to use from many threads and runs at once; a run adds its turn in one piece, after its
    final answer.

    Args:
        max_messages: most messages kept, system messages included (default: no limit).
        max_tokens: most tokens kept, by the estimate that also reserves quota (default: no limit).

    Raises:
        ConfigurationError: a limit is not a positive int.
    """

    def __init__(self, max_messages: int | None = None, max_tokens: int | None = None) -> None:
        if max_messages is not None:
            whole_number("max_messages", max_messages, hint="leave it out for no limit")
        if max_tokens is not None:
            whole_number("max_tokens", max_tokens, hint="leave it out for no limit")
        self._max_messages = max_messages
        self._max_tokens = max_tokens
        self._messages: tuple[Message, ...] = ()
        self._runs: set[str] = set()
        self._lock = fork_safe_lock()

    @property
    def messages(self) -> tuple[Message, ...]:
        """System messages, then the turns, oldest first."""
        return self._messages

    def add(self, *messages: Message, run_id: str | None = None) -> None:
        """Remember `messages`, in order; those of one run only once, if its id is given."""
        with self._lock:
            if run_id is not None:
                if run_id in self._runs:
                    return
                self._runs.add(run_id)
            self._messages = self.fit((*self._messages, *messages))

    def fit(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """`messages` within the limits: system messages first, each once; oldest turns left out."""
        system: list[Message] = []
        for each in messages:
            if each.role is MessageRole.SYSTEM and each not in system:
                system.append(each)
        turns = turns_of([each for each in messages if each.role is not MessageRole.SYSTEM])
        count = len(system) + sum(map(len, turns))
        tokens = self._tokens(system) + sum(map(self._tokens, turns))
        first = 0
        while first < len(turns) - 1 and self._exceeds(count, tokens):
            count -= len(turns[first])
            tokens -= self._tokens(turns[first])
            first += 1
        return (*system, *(each for turn in turns[first:] for each in turn))

    def clear(self) -> None:
        """Forget everything, system messages included."""
        with self._lock:
            self._messages = ()

    def __len__(self) -> int:
        return len(self._messages)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Memory {len(self)} messages>"

    def _exceeds(self, count: int, tokens: int) -> bool:
        if self._max_messages is not None and count > self._max_messages:
            return True
        return self._max_tokens is not None and tokens > self._max_tokens

    def _tokens(self, messages: Sequence[Message]) -> int:
        if self._max_tokens is None:
            return 0
        return sum(estimate_need(Request(messages=(each,))).input_tokens for each in messages)


def turns_of(messages: Sequence[Message]) -> list[list[Message]]:
    """`messages` in turns; a user message between a tool call and its result starts no new turn."""
    turns: list[list[Message]] = []
    waiting: set[str | None] = set()
    for message in messages:
        if not turns or (message.role is MessageRole.USER and not waiting):
            turns.append([])
        turns[-1].append(message)
        waiting.update(call.id for call in message.tool_calls)
        waiting.discard(message.tool_call_id)
    return turns
