"""The records of a run as JSON data: its start, the responses and the tool results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Final

from agentkit.agent.runs.journal import Codec
from agentkit.errors import RunChangedError
from agentkit.types import Message, Response, ToolCall, ToolSpec
from agentkit.types.json_values import FORMAT_VERSION, UNREADABLE, check_version, malformed


@dataclass(frozen=True, slots=True)
class Definition:
    """What a run must find unchanged when it starts again.

    `instructions` is the system prompt; `tools` has a digest of each tool by name, and `output` one
    of the answer's type, or "".
    """

    instructions: str
    tools: Mapping[str, str]
    output: str = ""

    def changes(self, now: Definition) -> list[str]:
        """The differences to `now`, one line each, with both versions."""
        found = []
        if self.instructions != now.instructions:
            found.append(
                f"the instructions were {_digest(self.instructions)} "
                f"and are {_digest(now.instructions)}"
            )
        for name in sorted({*self.tools, *now.tools}):
            before, after = self.tools.get(name, "absent"), now.tools.get(name, "absent")
            if before != after:
                found.append(f"tool {name} was {before} and is {after}")
        if self.output != now.output:
            found.append(
                f"the type of the answer was {self.output or 'absent'} "
                f"and is {now.output or 'absent'}"
            )
        return found


def definition_of(
    instructions: str, tools: Sequence[ToolSpec], schema: Mapping[str, Any] | None
) -> Definition:
    """The definition of a run with these instructions, tools and answer schema."""
    return Definition(
        instructions,
        {
            spec.name: _digest([spec.description, dict(spec.parameters), spec.effect])
            for spec in tools
        },
        "" if schema is None else _digest(dict(schema)),
    )


def effect_key(run_id: str, step: int, position: int, call: ToolCall) -> str:
    """A name for the effect of `call`, the same in every process that resumes the run."""
    return _digest([run_id, step, position, call.name, call.arguments], size=16)


def canonical(value: Any) -> str:
    """`value` as JSON with sorted keys; what JSON cannot hold is represented by its `repr`."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else repr(value)


def _digest(value: Any, size: int = 6) -> str:
    return blake2b(canonical(value).encode(), digest_size=size).hexdigest()


RESPONSE: Final = Codec[Response[Any]](Response.to_dict, Response.from_dict)
"""Records a model's response with its usage, ledger and state, without what `to_dict` omits."""


@dataclass(frozen=True, slots=True)
class RunStart:
    """How a run was started: everything that a process needs to continue it, except the tools.

    `history` is the conversation that its memory held. `options` are the limits and further
    arguments of `Agent.run` that JSON can hold.
    """

    agent: str
    task: tuple[Message, ...]
    history: tuple[Message, ...]
    definition: Definition
    options: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The start as a JSON value. Raises `TypeError` if a message has none."""
        return {
            "version": FORMAT_VERSION,
            "agent": self.agent,
            "task": [each.to_dict() for each in self.task],
            "history": [each.to_dict() for each in self.history],
            "definition": asdict(self.definition),
            "options": dict(self.options),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunStart:
        """The inverse of `to_dict`. Raises `ValueError`."""
        check_version("run", data)
        try:
            return cls(
                agent=data["agent"],
                task=tuple(map(Message.from_dict, data["task"])),
                history=tuple(map(Message.from_dict, data["history"])),
                definition=Definition(**data["definition"]),
                options=data["options"],
            )
        except UNREADABLE as exc:
            raise malformed("run") from exc

    def require_same(self, run_id: str, now: RunStart, *, allow_changes: bool) -> None:
        """Check that `now` continues this run.

        Raises:
            RunChangedError: the task differs; or, unless `allow_changes`, the instructions, the
                tools or the type of the answer.
        """
        if [each.to_dict() for each in self.task] != [each.to_dict() for each in now.task]:
            raise RunChangedError(
                f"run {run_id!r} was started with another task",
                hint="use another run_id, or Agent.resume to continue the recorded task",
            )
        changes = self.definition.changes(now.definition)
        if changes and not allow_changes:
            raise RunChangedError(
                f"run {run_id!r} was started differently: {'; '.join(changes)}",
                hint="resume it with the code that started it, or pass allow_changes=True",
            )


_WITH_CREDENTIALS: Final = {"extra_headers", "extra_query"}
"""Options that may have credentials, which are never recorded."""

START: Final = Codec[RunStart](RunStart.to_dict, RunStart.from_dict)
"""Records how a run was started."""


def json_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that JSON can hold, and that have no credentials."""
    kept = {}
    for name, value in options.items():
        if name in _WITH_CREDENTIALS:
            continue
        try:
            kept[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError, RecursionError):
            continue
    return kept
