"""Completion of model names after ``-m`` in the user's shell."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

_SEPARATOR = ":"
_BEFORE = "_AGENTKIT_TYPED_BEFORE"
"""The variable with the part of the word that bash does not replace."""


def complete_model(incomplete: str) -> list[str]:
    """The names of models that begin with `incomplete`: the providers, then the models of one."""
    from agentkit.providers.registry import provider_names

    before = os.environ.get(_BEFORE, "")
    typed = before + incomplete
    kinds = [f"{name}{_SEPARATOR}" for name in provider_names()]
    found = [kind for kind in kinds if kind.startswith(typed) or typed.startswith(kind)]
    if len(found) == 1:  # a shell would add a space after a single name that ends with a colon
        found = _models_of(found[0].removesuffix(_SEPARATOR)) or found
    return [name.removeprefix(before) for name in found if name.startswith(typed)]


def _models_of(kind: str) -> list[str]:
    from agentkit.config.check import models_of_sdk
    from agentkit.providers.registry import provider_info

    models = dict.fromkeys([*filter(None, [provider_info(kind).model]), *models_of_sdk(kind)])
    return [f"{kind}{_SEPARATOR}{model}" for model in models]


def join_words_around_colons(environ: MutableMapping[str, str] = os.environ) -> None:
    """Repair the request for completion that bash sends.

    Bash treats a colon as a word of its own: ``openai:gpt`` arrives as three words, and only the
    last one is replaced. They become one word without what comes before the last colon, which is
    kept in a variable.
    """
    if "COMP_WORDS" not in environ or "COMP_CWORD" not in environ:
        return
    joined: list[str] = []
    current = 0
    last = ""
    for index, word in enumerate(environ["COMP_WORDS"].split("\n")):
        if joined and _SEPARATOR in (word, last):
            joined[-1] += word
        else:
            joined.append(word)
        if index == int(environ["COMP_CWORD"]):
            current = len(joined) - 1
        last = word
    head, separator, joined[current] = joined[current].rpartition(_SEPARATOR)
    environ[_BEFORE] = head + separator
    environ["COMP_WORDS"], environ["COMP_CWORD"] = "\n".join(joined), str(current)
