"""The errors are what their module's docstring draws, and survive a process boundary."""

from __future__ import annotations

import pickle
import re
import textwrap
from typing import Any

import pytest

from agentkit import errors
from agentkit.errors import LLMError
from agentkit.types.ledger import Entry, Ledger

_LINE = re.compile(r"(?P<branch>(?:│ {2}| {3})*(?:[├└]─ )?)(?P<names>[A-Z]\w+(?: = [A-Z]\w+)*)")


def drawn() -> tuple[dict[str, str | None], dict[str, str]]:
    """The tree in the docstring: each class's parent, and each alias's class."""
    parents: dict[str, str | None] = {}
    aliases: dict[str, str] = {}
    above: list[str] = []
    drawing = (errors.__doc__ or "").split("::\n\n", 1)[1].split("\n\n", 1)[0]
    for line in textwrap.dedent(drawing).splitlines():
        match = _LINE.fullmatch(line)
        assert match, f"not a line of the tree: {line}"
        depth = len(match["branch"]) // 3
        name, *others = match["names"].split(" = ")
        parents[name] = above[depth - 1] if depth else None
        above[depth:] = [name]
        aliases |= dict.fromkeys(others, name)
    return parents, aliases


def classes() -> dict[str, type[LLMError]]:
    """Every error class by its own name."""
    found = (value for value in vars(errors).values() if isinstance(value, type))
    return {cls.__name__: cls for cls in found if issubclass(cls, LLMError)}


@pytest.mark.promise("N14")
def test_the_drawn_tree_is_the_tree() -> None:
    real = {
        name: next((base.__name__ for base in cls.__bases__ if issubclass(base, LLMError)), None)
        for name, cls in classes().items()
    }
    assert drawn()[0] == real


def test_the_drawn_aliases_are_the_aliases() -> None:
    real = {
        name: value.__name__
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, LLMError) and name != value.__name__
    }
    assert drawn()[1] == real


def test_the_promised_builtin_bases_hold() -> None:
    assert issubclass(errors.MissingDependencyError, ImportError)
    assert issubclass(errors.ProviderTimeoutError, TimeoutError)
    assert issubclass(errors.DeadlineExceededError, TimeoutError)
    assert issubclass(errors.AllModelsFailedError, ExceptionGroup)


def make(cls: type[LLMError], **kwargs: Any) -> LLMError:
    """An error of this class; a group needs its causes."""
    causes = ([errors.ServerError("down", model="a", status=503)],)
    return cls("it failed", *(causes if issubclass(cls, ExceptionGroup) else ()), **kwargs)


@pytest.mark.parametrize("cls", classes().values(), ids=lambda cls: cls.__name__)
def test_an_error_pickles_with_all_it_knows(cls: type[LLMError]) -> None:
    ledger = Ledger([Entry("a", "custom", "failure", number=1, error="ServerError")])
    error = make(cls, hint="try later", ledger=ledger, retry_after=1.5)
    error.retryable = not error.retryable
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert str(copy) == str(error)
    assert (copy.retryable, copy.retry_after, copy.hint) == (error.retryable, 1.5, "try later")
    assert list(copy.ledger or ()) == list(ledger)
    assert repr(getattr(copy, "exceptions", ())) == repr(getattr(error, "exceptions", ()))


@pytest.mark.parametrize("cls", classes().values(), ids=lambda cls: cls.__name__)
def test_an_error_names_what_to_do_in_its_last_line(cls: type[LLMError]) -> None:
    assert str(make(cls, hint="try later")).splitlines()[-1] == "hint: try later"
