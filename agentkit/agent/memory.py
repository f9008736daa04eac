"""The conversation that an agent remembers, within limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from agentkit._fork import fork_safe_lock
from agentkit.agent.runs.journal import Journal
from agentkit.agent.runs.session import store_of
from agentkit.agent.runs.store import RunStore
from agentkit.errors import ConfigurationError, JournalError
from agentkit.policy.limits import estimate_need
from agentkit.policy.validation import whole_number
from agentkit.types import Message, MessageRole, Request
from agentkit.types.json_values import FORMAT_VERSION, UNREADABLE, check_version

_SUMMARY: Final = "Summary of the earlier conversation:\n"
_TRIMMED: Final = 200
"""Characters that are kept of an old tool result when the conversation is too long."""
_RUNS: Final = 1000
"""How many runs a memory recognises, so that it adds each only once."""


class Memory:
    """A conversation that forgets its oldest turns when it grows too long.

    A turn is a user message and everything up to the next one: answers, tool calls and their
    results stay together. System messages are never forgotten and come first. The newest turn is
    always kept, even if it exceeds the limits on its own: without it there is nothing to answer.
    Safe to use from many threads and runs at once; a run adds its turn in one piece, after its
    final answer.

    Args:
        max_messages: the most messages kept, including system messages (default: no limit).
        max_tokens: the most tokens kept, estimated as for rate limits (default: no limit).
        summarize_with: the name of the model that summarises the oldest turns before they are
            forgotten. Old tool results are shortened first. If the model fails, the turns are
            forgotten. Needs `max_tokens`.
        name: names the conversation in the `journal`, such as ``"customer-7"``.
        journal: where the conversation is kept, for all processes: a URL as for `Agent.run`, or a
            `RunStore` (default: in this object).

    Raises:
        ConfigurationError: a limit is not a positive int, or arguments are missing.
    """

    def __init__(
        self,
        max_messages: int | None = None,
        max_tokens: int | None = None,
        *,
        summarize_with: str | None = None,
        name: str | None = None,
        journal: str | RunStore | Journal | None = None,
    ) -> None:
        if max_messages is not None:
            whole_number("max_messages", max_messages, hint="leave it out for no limit")
        if max_tokens is not None:
            whole_number("max_tokens", max_tokens, hint="leave it out for no limit")
        if summarize_with is not None and max_tokens is None:
            raise ConfigurationError("summarize_with needs a limit", hint="set max_tokens=")
        if (name is None) != (journal is None):
            raise ConfigurationError(
                "a memory is kept in a journal under a name", hint="give both name= and journal="
            )
        self.summarize_with = summarize_with
        self._max_messages = max_messages
        self._max_tokens = max_tokens
        self._name = name or ""
        self._store = None if journal is None else store_of(journal)
        self._kept = _Kept()
        self._lock = fork_safe_lock()

    @property
    def messages(self) -> tuple[Message, ...]:
        """System messages, then the turns, oldest first. Raises `JournalError`."""
        if self._store is None:
            return self._kept.messages
        return _kept_in(self._store.load(self._name)).messages

    def add(self, *messages: Message, run_id: str | None = None) -> None:
        """Remember `messages`, in order; those of one run only once, if its id is given."""

        def added(kept: _Kept) -> _Kept:
            if run_id is not None and run_id in kept.runs:
                return kept
            runs = kept.runs if run_id is None else (*kept.runs, run_id)[-_RUNS:]
            together = (*kept.messages, *messages)
            # What is to be summarised is kept until the next run does so.
            fits = self.fit if self.summarize_with is None else _system_first
            return _Kept(fits(together), runs)

        self._change(added)

    def fit(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """`messages` within the limits: system messages first, each once; oldest turns left out."""
        system, rest = _divided(messages)
        if self.summarize_with is not None:
            rest = self._trimmed(rest, self._tokens(system))
        turns = turns_of(rest)
        count = len(system) + sum(map(len, turns))
        tokens = self._tokens(system) + sum(map(self._tokens, turns))
        first = 0
        while first < len(turns) - 1 and self._exceeds(count, tokens):
            count -= len(turns[first])
            tokens -= self._tokens(turns[first])
            first += 1
        return (*system, *(each for turn in turns[first:] for each in turn))

    def excess(self, history: Sequence[Message], task: Sequence[Message]) -> Excess | None:
        """The oldest turns of `history`, to be summarised before `task`; None if all fit.

        What is left after them is half of `max_tokens` at most, so that this is rarely needed.
        """
        if self.summarize_with is None or self._max_tokens is None:
            return None
        system, rest = _divided(history)
        trimmed = self._trimmed(rest, self._tokens(system) + self._tokens(task))
        tokens = self._tokens(system) + self._tokens(trimmed) + self._tokens(task)
        if tokens <= self._max_tokens:
            return None
        turns, first = turns_of(trimmed), 0
        while first < len(turns) and tokens > self._max_tokens // 2:
            tokens -= self._tokens(turns[first])
            first += 1
        old = [each for turn in turns[:first] for each in turn]
        summaries = [each for each in system if each.text.startswith(_SUMMARY)]
        kept = [each for each in system if each not in summaries]
        newest = [each for turn in turns[first:] for each in turn]
        return Excess((*summaries, *old), tuple(kept), tuple(newest)) if old else None

    def replace(self, history: Sequence[Message], by: Sequence[Message]) -> None:
        """Remember `by` instead of `history`, unless the beginning is another by now."""
        before = tuple(history)

        def replaced(kept: _Kept) -> _Kept:
            if kept.messages[: len(before)] != before:
                return kept
            return replace(kept, messages=(*by, *kept.messages[len(before) :]))

        self._change(replaced)

    def clear(self) -> None:
        """Forget everything, system messages included."""
        self._change(lambda kept: replace(kept, messages=()))

    def __len__(self) -> int:
        return len(self.messages)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        where = f" {self._name!r}" if self._name else ""
        return f"<Memory{where} {len(self)} messages>"

    def _change(self, change: Callable[[_Kept], _Kept]) -> None:
        if self._store is not None:
            self._store.update(self._name, lambda data: change(_kept_in(data)).to_dict())
            return
        with self._lock:
            self._kept = change(self._kept)

    def _trimmed(self, messages: Sequence[Message], others: int) -> list[Message]:
        """`messages` with the oldest tool results shortened as far as the limit demands."""
        trimmed = list(messages)
        tokens = others + self._tokens(trimmed)
        calls = [index for index, each in enumerate(trimmed) if each.tool_calls]
        newest = calls[-1] if calls else 0
        for index, each in enumerate(trimmed[:newest]):
            if not self._exceeds(0, tokens):
                break
            if each.role is MessageRole.TOOL and len(each.text) > _TRIMMED:
                short = replace(each, content=f"{each.text[:_TRIMMED]}\n[shortened]")
                tokens -= self._tokens([each]) - self._tokens([short])
                trimmed[index] = short
        return trimmed

    def _exceeds(self, count: int, tokens: int) -> bool:
        if self._max_messages is not None and count > self._max_messages:
            return True
        return self._max_tokens is not None and tokens > self._max_tokens

    def _tokens(self, messages: Sequence[Message]) -> int:
        if self._max_tokens is None:
            return 0
        return sum(estimate_need(Request(messages=(each,))).input_tokens for each in messages)


class Excess(NamedTuple):
    """The turns to be summarised, and the messages around their summary."""

    old: tuple[Message, ...]
    system: tuple[Message, ...]
    newest: tuple[Message, ...]

    def request(self) -> tuple[Message, ...]:
        """The conversation that asks a model for the summary."""
        lines = [_line(each) for each in self.old]
        return (
            Message(
                MessageRole.SYSTEM,
                "Summarise the conversation. Keep names, numbers, decisions, promises and open "
                "questions. Answer with the summary only.",
            ),
            Message(MessageRole.USER, "\n".join(lines)),
        )

    def summarized(self, summary: str) -> tuple[Message, ...]:
        """The conversation with `summary` in place of the old turns."""
        return (*self.system, Message(MessageRole.SYSTEM, f"{_SUMMARY}{summary}"), *self.newest)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a memory keeps: messages, and the ids of the runs that were added last."""

    messages: tuple[Message, ...] = ()
    runs: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        messages = [each.to_dict() for each in self.messages]
        return {"version": FORMAT_VERSION, "messages": messages, "runs": list(self.runs)}


def _kept_in(data: Mapping[str, Any] | None) -> _Kept:
    if data is None:
        return _Kept()
    try:
        check_version("memory", data)
        return _Kept(tuple(map(Message.from_dict, data["messages"])), tuple(data["runs"]))
    except UNREADABLE as error:
        raise JournalError(f"a memory in the journal cannot be read: {error}") from error


def _divided(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """The system messages, each once, and the others."""
    system: list[Message] = []
    for each in messages:
        if each.role is MessageRole.SYSTEM and each not in system:
            system.append(each)
    return system, [each for each in messages if each.role is not MessageRole.SYSTEM]


def _system_first(messages: Sequence[Message]) -> tuple[Message, ...]:
    system, rest = _divided(messages)
    return (*system, *rest)


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


def _line(message: Message) -> str:
    calls = "".join(f" [calls {call.name} {dict(call.arguments)}]" for call in message.tool_calls)
    return f"{message.role}: {message.text}{calls}"
