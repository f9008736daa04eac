"""Every lock is made by `agentkit._fork`, which knows about forks, and taken by ``with``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.tree import PACKAGE, package_files, parse, where

FORBIDDEN = {"Lock", "RLock", "acquire", "register_at_fork", "getpid"}


def strays(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each lock made or taken by a call, and each look at forks, outside `agentkit._fork`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in FORBIDDEN or (name == "Condition" and not node.args):
                yield node.lineno, name


def test_every_lock_is_fork_safe_and_one_module_handles_forks() -> None:
    found = [
        where(path, line, use)
        for path in package_files()
        if path != PACKAGE / "_fork.py"
        for line, use in strays(parse(path))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "self._lock = Lock()",
        "lock = threading.RLock()",
        "while self._lock.acquire(blocking=False): ...",
        "changed = threading.Condition()",
        "os.register_at_fork(after_in_child=f)",
        "if os.getpid() != pid: ...",
    ],
)
def test_a_stray_lock_is_found(source: str) -> None:
    assert list(strays(ast.parse(source)))


def test_the_one_place_is_seen() -> None:
    uses = [use for _, use in strays(parse(PACKAGE / "_fork.py"))]
    assert sorted(uses) == ["Lock", "RLock", "acquire", "acquire", "acquire", "register_at_fork"]
