"""The history of a run as text, from its journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from agentkit.agent.calls import ToolResult
from agentkit.agent.runs.records import RESPONSE, START, canonical
from agentkit.agent.runs.store import RecordedStep, RunInfo
from agentkit.types import Response, ToolCall
from agentkit.types.ledger import Ledger

_MAX_TEXT = 200
"""Characters of a message, an argument list or a result that a line shows."""


def story_of(info: RunInfo, steps: Sequence[RecordedStep]) -> str:
    """What happened in a run, line by line, with tokens, costs and what is in doubt."""
    responses: list[Response[Any]] = []
    names = {step.name for step in steps}
    calls: dict[str, ToolCall] = {}
    lines = [f"run {info.id} of agent {info.agent}: {info.status}"]
    if info.note:
        lines[0] += f" ({_short(info.note)})"
    for step in steps:
        if step.name.endswith(".model"):
            response = RESPONSE.value(step.name, step.value)
            responses.append(response)
            number = step.name.removesuffix(".model")
            calls.update(
                (f"{number}.{position}", call) for position, call in enumerate(response.tool_calls)
            )
        text = _line(step, calls, names)
        if text:
            lines.append(f"{step.seconds:9.3f} s  {text}")
    lines.extend(_open_ends(info, calls, names))
    lines.append(_totals(info, responses))
    return "\n".join(lines)


def _line(step: RecordedStep, calls: dict[str, ToolCall], names: set[str]) -> str:
    place, _, kind = step.name.rpartition(".")
    if step.name == "start":
        task = START.value(step.name, step.value).task
        return f"task: {_short(task[-1].text)}"
    if kind == "model":
        return _answer(place, RESPONSE.value(step.name, step.value))
    if kind.startswith("failed-"):
        return f"{place} failed: {Ledger.from_dict(step.value)}"
    call = _call_at(place, calls)
    if kind == "decision":
        return f"{place} {call}: {_decision(step.value)}"
    if kind == "result" and "ask" not in step.value:
        result = ToolResult.from_dict(step.value)
        how = "in doubt" if result.in_doubt else result.error or "done"
        return f"{place} {call}: {how} in {result.seconds:.3f} s: {_short(result.content)}"
    if kind == "started" and f"{place}.result" not in names:
        return f"{place} {call}: started, in doubt: no result is recorded"
    return ""


def _answer(number: str, response: Response[Any]) -> str:
    what = f"{len(response.tool_calls)} tool calls" if response.tool_calls else "answered"
    tokens = f"{response.usage.input_tokens}+{response.usage.output_tokens} tokens"
    cost = response.ledger.cost
    price = "" if cost is None else f", {cost:.6f} USD"
    text = f": {_short(response.text)}" if response.text else ""
    return f"{number} {response.model}: {what}, {tokens}{price}{text}"


def _open_ends(info: RunInfo, calls: dict[str, ToolCall], names: set[str]) -> Iterator[str]:
    waiting = set(info.pending) if info.status == "waiting" else set()
    for place, call in calls.items():
        if call.id in waiting and f"{place}.result" not in names:
            yield f"             {place} {_called(call)}: waits for approval ({call.id})"


def _totals(info: RunInfo, responses: Sequence[Response[Any]]) -> str:
    tokens = sum(
        entry.input_tokens + entry.output_tokens
        for response in responses
        for entry in response.ledger
    )
    costs = [response.ledger.cost for response in responses]
    known = [cost for cost in costs if cost is not None]
    price = f"{sum(known):.6f} USD" if len(known) == len(costs) else "cost unknown"
    return f"{len(responses)} answers, {tokens} tokens, {price}, {info.claims} claims"


def _decision(value: Sequence[Any]) -> str:
    kind, detail = value
    if kind == "deny":
        return f"denied: {detail or 'no reason'}"
    return "approved" if kind == "approve" else f"approved with {_short(canonical(detail))}"


def _call_at(place: str, calls: dict[str, ToolCall]) -> str:
    call = calls.get(".".join(place.split(".")[:2]))
    return "?" if call is None else _called(call)


def _called(call: ToolCall) -> str:
    return f"{call.name}({_short(canonical(call.arguments))})"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else f"{line[:_MAX_TEXT]}…"
