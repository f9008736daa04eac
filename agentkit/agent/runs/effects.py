"""Tool calls that act once: approved, announced, made and recorded, in this order.

A call of a tool that may not be repeated is announced in the journal before it is made. If the run
starts again and finds the announcement without a result, the call is in doubt: it may or may not
have taken effect. It is not made again unless the tool or the approver says so.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from agentkit.agent.callables import acall
from agentkit.agent.calls import PendingCall, ToolResult
from agentkit.agent.runs.journal import Codec, Recorder
from agentkit.agent.runs.records import canonical, effect_key
from agentkit.errors import ConfigurationError
from agentkit.output.tools import ToolContext
from agentkit.types import ToolCall, ToolSpec

Encode: TypeAlias = Callable[[Any], str]
Execute: TypeAlias = Callable[[ToolCall, ToolContext], Awaitable[ToolResult]]
"""Carries out a call."""


class Decision(NamedTuple):
    """What an approver decided about one call."""

    kind: Literal["approve", "deny", "edit"]
    value: Any = None


@dataclass(frozen=True, slots=True)
class Decisions:
    """What approvers decided, by the id of the call."""

    by_call: Mapping[str, Decision] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        approve: Iterable[str],
        deny: Mapping[str, str] | Iterable[str],
        edit: Mapping[str, Mapping[str, Any]],
    ) -> Decisions:
        """The decisions in the arguments of `Agent.resume`.

        Raises:
            ConfigurationError: two decisions about one call, or one that JSON cannot hold.
        """
        reasons = deny if isinstance(deny, Mapping) else dict.fromkeys(_names(deny), "")
        found: dict[str, Decision] = {}
        for kind, given in (
            ("approve", dict.fromkeys(_names(approve))),
            ("deny", reasons),
            ("edit", edit),
        ):
            for call_id, value in given.items():
                _require_json(kind, call_id, value)
                if call_id in found:
                    raise ConfigurationError(
                        f"two decisions about call {call_id!r}",
                        hint="name it in one of approve=, deny= and edit=",
                    )
                found[call_id] = Decision(kind, value)  # type: ignore[arg-type]  # one of three
        return cls(found)


class _Repeat(NamedTuple):
    """The call in doubt is to be carried out, after the approver has been asked if `ask`."""

    ask: bool


_OUTCOME: Final = Codec[ToolResult | _Repeat](
    lambda value: {"ask": value.ask} if isinstance(value, _Repeat) else value.to_dict(),
    lambda data: _Repeat(data["ask"]) if "ask" in data else ToolResult.from_dict(data),
)
_DECISION: Final = Codec[Decision](list, lambda data: Decision(*data))
_FLAG: Final = Codec[bool](bool, bool)


class EffectGuard:
    """Runs the tool calls of one run through its journal.

    Args:
        recorder: the run's recorder.
        run_id: the run's id.
        decisions: what approvers decided since the run waited.
        encode: turns the result of a tool into text.

    Attributes:
        run_id: as given.
        concurrent: whether several calls may go through it at once.
    """

    def __init__(
        self, recorder: Recorder, run_id: str, decisions: Decisions, encode: Encode
    ) -> None:
        self.run_id = run_id
        self.concurrent = recorder.concurrent
        self._recorder = recorder
        self._decisions = decisions
        self._encode = encode

    async def outcome(
        self, spec: ToolSpec, call: ToolCall, position: int, context: ToolContext, execute: Execute
    ) -> ToolResult | PendingCall:
        """The result of `call`, recorded or new, or the call if it waits for approval.

        `position` is that of the call in its step, and `context` has no effect key yet.
        """
        place = f"{context.step}.{position}"
        ask = await self._needs_approval(spec, call, place)
        doubts = 0
        decision: Decision | None = None
        while True:
            name = f"{place}.repeat-{doubts}" if doubts else place
            chosen = call
            if ask:
                decision = await self._decision(name, call)
                if decision is None:
                    return PendingCall(call, in_doubt=doubts > 0)
                if decision.kind == "deny":
                    self._require_heeded(call, decision)
                    return _denied(call, decision.value)
                if decision.kind == "edit":
                    chosen = replace(call, arguments=decision.value)
            fresh = spec.repeatable or await self._recorder.first(f"{name}.started")
            key = effect_key(self.run_id, context.step, position, chosen)
            own = replace(context, effect_key=key, run_id=self.run_id)
            carry_out = partial(self._carry_out, spec, chosen, own, execute if fresh else None)
            outcome = await self._recorder.astep(f"{name}.result", carry_out, _OUTCOME)
            if isinstance(outcome, ToolResult):
                self._require_heeded(call, decision)
                return outcome if chosen is call else _edited(outcome)
            doubts += 1
            ask = outcome.ask

    async def _carry_out(
        self, spec: ToolSpec, call: ToolCall, context: ToolContext, execute: Execute | None
    ) -> ToolResult | _Repeat:
        """Carry out the call; settle what became of it if `execute` is None or timed out."""
        result = await execute(call, context) if execute else None
        if result is not None and not (result.in_doubt and spec.effect == "once"):
            return result
        answer = await self._resolution(spec, call, context)
        if answer == "not done":
            return _Repeat(ask=False) if result is None else replace(result, in_doubt=False)
        if answer != "unknown":
            return ToolResult(call, answer)
        return _Repeat(ask=True) if spec.approve else _in_doubt(call)

    async def _resolution(self, spec: ToolSpec, call: ToolCall, context: ToolContext) -> str:
        """The result as text, ``"not done"`` or ``"unknown"``."""
        if spec.resolve is None:
            return "unknown"
        try:
            both = len(inspect.signature(spec.resolve).parameters) > 1
            answer = await acall(spec.resolve, (call, context) if both else (call,), {})
            if isinstance(answer, str) and answer in {"not done", "unknown"}:
                return answer
            return self._encode(answer)
        except Exception:  # noqa: BLE001 - a resolver that fails does not know
            return "unknown"

    async def _needs_approval(self, spec: ToolSpec, call: ToolCall, place: str) -> bool:
        approve = spec.approve
        if not callable(approve):
            return approve

        async def ask() -> bool:
            return bool(await acall(approve, (call,), {}))

        return await self._recorder.astep(f"{place}.approval", ask, _FLAG)

    async def _decision(self, name: str, call: ToolCall) -> Decision | None:
        given = self._decisions.by_call.get(call.id)

        async def decide() -> Decision:
            if given is None:
                raise _UndecidedError
            return given

        try:
            decision = await self._recorder.astep(f"{name}.decision", decide, _DECISION)
        except _UndecidedError:
            return None
        return decision

    def _require_heeded(self, call: ToolCall, decision: Decision | None) -> None:
        """Check that an approver's decision was not too late for an earlier, other one."""
        given = self._decisions.by_call.get(call.id)
        if given is not None and given != decision:
            earlier = "nothing" if decision is None else decision.kind
            raise ConfigurationError(
                f"call {call.id!r} was decided before: {earlier}",
                hint="resume without a decision about it",
            )


class _UndecidedError(Exception):
    """No approver has decided about the call yet."""


def _denied(call: ToolCall, reason: str | None) -> ToolResult:
    return ToolResult(call, f"Denied: {reason or 'the call was not approved'}", "Denied")


def _edited(result: ToolResult) -> ToolResult:
    note = f"[carried out with the arguments {canonical(result.call.arguments)}]"
    return replace(result, content=f"{note}\n{result.content}")


def _in_doubt(call: ToolCall) -> ToolResult:
    return ToolResult(
        call,
        f"InDoubt: {call.name} was started and no result is known. It may have taken effect or "
        "not, and it was not repeated. Find out which before you call it again.",
        "InDoubt",
        in_doubt=True,
    )


def _require_json(kind: str, call_id: str, value: Any) -> None:
    """Check that a decision can be recorded, before anything else happens."""
    fits = isinstance(value, str | None)
    if kind == "edit":
        fits = isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    with suppress(TypeError, ValueError, RecursionError):
        json.dumps(dict(value) if isinstance(value, Mapping) else value)
        if fits:
            return
    expected = "arguments by name, which JSON can hold" if kind == "edit" else "a reason, a str"
    raise ConfigurationError(
        f"{kind}= has a {type(value).__name__} for call {call_id!r}", hint=f"give {expected}"
    )


def _names(given: Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)
