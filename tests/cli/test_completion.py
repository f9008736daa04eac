"""Completion of model names in the user's shell."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agentkit.cli.completion import complete_model, join_words_around_colons


def test_a_provider_is_completed_first_and_then_its_models() -> None:
    assert {"anthropic:", "openai:"} <= set(complete_model(""))
    assert complete_model("gro") == complete_model("groq:")
    models = complete_model("groq:")
    assert models
    assert all(name.startswith("groq:") for name in models)
    assert complete_model("unknown:") == []


@pytest.mark.parametrize(
    ("words", "current", "joined", "position"),
    [
        ("agentkit ask -m groq : ll", 5, "agentkit ask -m ll", 3),
        ("agentkit ask -m groq :", 4, "agentkit ask -m ", 3),
        ("agentkit ask -m a : b hello", 6, "agentkit ask -m a:b hello", 4),
        ("agentkit ask -m open", 3, "agentkit ask -m open", 3),
    ],
)
def test_words_that_bash_split_at_a_colon_are_joined(
    words: str, current: int, joined: str, position: int
) -> None:
    environ = {"COMP_WORDS": words.replace(" ", "\n"), "COMP_CWORD": str(current)}
    join_words_around_colons(environ)
    assert environ["COMP_WORDS"] == joined.replace(" ", "\n")
    assert environ["COMP_CWORD"] == str(position)


def test_bash_gets_only_what_follows_the_colon() -> None:
    """Through the real entry point, as the script of the shell calls it."""
    done = subprocess.run(
        [sys.executable, "-c", "from agentkit.__main__ import main; main()"],
        env=os.environ
        | {
            "_AGENTKIT_COMPLETE": "complete_bash",
            "COMP_WORDS": "agentkit\nask\n-m\ngroq\n:",
            "COMP_CWORD": "4",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    names = done.stdout.split()
    assert names == [name.removeprefix("groq:") for name in complete_model("groq:")]
