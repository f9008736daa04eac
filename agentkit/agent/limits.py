"""The limits of a run: steps, seconds, money and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from agentkit.policy.budget import Budget
from agentkit.policy.deadline import Deadline
from agentkit.policy.validation import number, optional_number, whole_number


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The limits of a run. Raises `ConfigurationError` for a value that cannot work."""

    max_steps: int
    deadline: float | None
    max_cost: float | None
    max_tokens: int | None
    tool_timeout: float
    max_tool_output: int

    def __post_init__(self) -> None:
        whole_number("max_steps", self.max_steps)
        Deadline(self.deadline, 0.0)
        optional_number("max_cost", self.max_cost, above=True)
        if self.max_tokens is not None:
            whole_number("max_tokens", self.max_tokens)
        number("tool_timeout", self.tool_timeout, above=True)
        whole_number("max_tool_output", self.max_tool_output)

    def budget(self) -> Budget | None:
        """The tokens and money of one run, or None without a limit."""
        if self.max_tokens is None and self.max_cost is None:
            return None
        return Budget(tokens=self.max_tokens, usd=self.max_cost)


def split_options(options: Mapping[str, Any]) -> tuple[RunLimits, dict[str, Any]]:
    """The limits in the arguments of `Agent.run`, and its other options."""
    names = {each.name for each in fields(RunLimits)}
    limits = {name: value for name, value in options.items() if name in names}
    return RunLimits(**limits), {k: v for k, v in options.items() if k not in names}
