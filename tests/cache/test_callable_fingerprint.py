"""A callable's fingerprint follows what it does, and means the same in another process."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import agentkit
from agentkit.cache.fingerprint import callable_fingerprint


def fingerprint(fn: Any, **metadata: Any) -> str | None:
    return callable_fingerprint(fn, metadata)


def defined(source: str) -> Any:
    """The function `f` of a module with this source."""
    module: dict[str, Any] = {"__name__": "app"}
    exec(compile(textwrap.dedent(source), "app.py", "exec", dont_inherit=True), module)
    return module["f"]


SAME = "def f(prompt, kwargs):\n    return prompt.upper()"


def test_the_same_source_has_the_same_fingerprint_wherever_it_stands() -> None:
    assert fingerprint(defined(SAME)) == fingerprint(defined("\n\n# moved\n" + SAME)) is not None


@pytest.mark.parametrize(
    "changed",
    [
        "def f(prompt, kwargs):\n    return prompt.lower()",
        "def f(messages, kwargs):\n    return messages.upper()",
        "def f(prompt, kwargs):\n    return prompt.upper() + '!'",
        "def f(prompt, kwargs, n=1):\n    return prompt.upper()",
        "async def f(prompt, kwargs):\n    return prompt.upper()",
        "def g(prompt, kwargs):\n    return prompt.upper()\nf = g",
        "def f(prompt, kwargs):\n    try:\n        return prompt.upper()\n    except KeyError: ...",
    ],
)
def test_other_code_has_another_fingerprint(changed: str) -> None:
    assert fingerprint(defined(changed)) not in (None, fingerprint(defined(SAME)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(p, k): return (lambda: 1)()", "def f(p, k): return (lambda: 2)()"),
        ("def f(p, k, x=1): ...", "def f(p, k, x=2): ..."),
        ("def f(p, k, x=1): ...", "def f(p, k, x=True): ..."),
        ("def f(p, k, *, x=1): ...", "def f(p, k, *, x=2): ..."),
        ("def f(p, k): return p in {1, 2}", "def f(p, k): return p in {1, 3}"),
        ("S = 'be brief'\ndef f(p, k): return S + p", "S = 'be nice'\ndef f(p, k): return S + p"),
        (
            "def h(p): return p\ndef f(p, k): return h(p)",
            "def h(p): return p + '!'\ndef f(p, k): return h(p)",
        ),
        (
            "S = 1\ndef f(p, k): return [S for _ in p]",
            "S = 2\ndef f(p, k): return [S for _ in p]",
        ),
    ],
)
def test_constants_defaults_and_module_constants_count(one: str, other: str) -> None:
    prints = [fingerprint(defined(source)) for source in (one, one, other)]
    assert prints[0] == prints[1] != prints[2]
    assert None not in prints


def closing_over(value: Any) -> Any:
    def f(prompt: str, kwargs: Any) -> Any:
        return value

    return f


def test_closure_values_count() -> None:
    values: list[Any] = [0, 0.0, False, "0", b"0", None, (0,), [0], {"a": 0}, {"a": 1}, {0}]
    prints = [fingerprint(closing_over(value)) for value in values]
    assert None not in prints
    assert len(set(prints)) == len(values)
    assert prints == [fingerprint(closing_over(value)) for value in values]
    assert fingerprint(closing_over({"a": 1, "b": 2})) == fingerprint(
        closing_over({"b": 2, "a": 1})
    )


def test_a_function_in_a_closure_counts_with_its_own_closure() -> None:
    one, same, other = (closing_over(closing_over(x)) for x in ("a", "a", "b"))
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


def test_a_function_that_reaches_itself_has_a_fingerprint() -> None:
    def f(prompt: str, kwargs: Any) -> Any:
        return f(prompt[1:], kwargs) if prompt else ""

    assert fingerprint(f) is not None
    assert fingerprint(defined("def f(p, k): return f(p, k)")) is not None


def test_a_global_that_the_code_assigns_is_a_counter_and_not_a_constant() -> None:
    fn = defined("calls = 0\ndef f(p, k):\n    global calls\n    calls += 1\n    return p")
    before = fingerprint(fn)
    fn("hi", {})
    assert fingerprint(fn) == before is not None


def test_a_global_object_is_not_looked_into() -> None:
    source = "class C: ...\nclient = C()\ndef f(p, k): return client"
    assert fingerprint(defined(source)) == fingerprint(defined(source)) is not None


class Model:
    def __call__(self, prompt: str, kwargs: Any) -> str:
        return prompt

    def answer(self, prompt: str, kwargs: Any) -> str:
        return prompt


@pytest.mark.parametrize(
    "fn",
    [
        Model(), Model().answer, Model, len, closing_over(object()), closing_over(Model()),
        closing_over([object()]), functools.partial(Model().answer), functools.lru_cache(Model()),
        functools.partial(closing_over(1), object()),
    ],
)  # fmt: skip
def test_without_a_version_what_cannot_be_identified_has_no_fingerprint(fn: Any) -> None:
    assert fingerprint(fn) is None
    assert fingerprint(fn, version=None) is None
    versions = [fingerprint(fn, version=version) for version in ("1", 1, 1.5, "2", "1")]
    assert None not in versions
    assert versions[0] == versions[4]
    assert len(set(versions)) == 4


def test_a_version_replaces_the_code_but_not_the_name() -> None:
    one, changed = defined(SAME), defined("def f(p, k): return 'other'")
    renamed = defined("def g(p, k): return p\nf = g")
    assert fingerprint(one, version="7") == fingerprint(changed, version="7")
    assert fingerprint(one, version="7") != fingerprint(renamed, version="7")
    assert fingerprint(one, version="7") != fingerprint(one)


def test_a_version_identifies_only_if_it_is_text_or_a_number() -> None:
    assert fingerprint(defined(SAME), version=object()) is None


def test_a_partial_counts_with_its_arguments() -> None:
    base = closing_over(1)
    prints = {fingerprint(functools.partial(base, *args)) for args in ((), ("a",), ("b",))}
    assert len(prints) == 3
    assert None not in prints
    assert fingerprint(functools.partial(base, x=1)) != fingerprint(functools.partial(base, x=2))


def test_other_metadata_does_not_matter() -> None:
    assert fingerprint(defined(SAME), cost=1) == fingerprint(defined(SAME))


@pytest.mark.processes
def test_a_fingerprint_means_the_same_in_another_process() -> None:
    source = (
        "def f(p, k, x={'a': (1, 2.0)}):\n"
        "    return p in {'a', 'b', 'c', 'd'} or (lambda: frozenset('xyz'))() or 1j"
    )
    program = (
        "from agentkit.cache.fingerprint import callable_fingerprint\n"
        f"module = {{'__name__': 'app'}}\nexec({source!r}, module)\n"
        "print(callable_fingerprint(module['f'], {}))"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(agentkit.__path__[0]).parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert prints == {fingerprint(defined(source))}
