"""Hints for people at a terminal, who have options and no arguments."""

from __future__ import annotations

from typing import Final

from agentkit import errors as e

_HINTS: Final[dict[type[e.LLMError], str]] = {
    e.DeadlineExceededError: "raise --deadline, or add a faster fallback with another -m",
    e.CircuitOpenError: "wait, or add a fallback with another -m",
    e.StructuredOutputError: "simplify the schema, or add a fallback with another -m",
    e.StreamInterruptedError: "add --no-stream, with which a broken answer is retried",
}

_ARGUMENTS: Final = (
    (
        "see .ledger.explain() for every attempt, and .exceptions for each model's cause",
        "`agentkit ask -v` shows every attempt",
    ),
    (", or give api_key=", ""),
    ("give base_url='http://host/v1'", "add --base-url http://host/v1"),
    ("(base_url)", "(--base-url)"),
    ("lower max_tokens=", "lower -o max_tokens=…"),
    ("raise max_tokens", "raise it with -o max_tokens=…"),
    ("larger context_window", "larger context window"),
)
"""Python's spelling of what an option does, and that of the command line."""


def hint_for(error: Exception) -> str | None:
    """The hint of `error` in terms of the command line."""
    given: str | None = getattr(error, "hint", None)
    if given is None or type(error) in _HINTS:
        return _HINTS.get(type(error)) if isinstance(error, e.LLMError) else None
    for argument, option in _ARGUMENTS:
        given = given.replace(argument, option)
    return given
