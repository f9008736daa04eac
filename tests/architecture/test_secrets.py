"""No key in the code, none in what an object shows of itself."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from tests.architecture.tree import PACKAGE, ROOT, module_of, package_files, where

KEY = re.compile(
    r"\b(sk-(?:ant-|proj-)?[\w-]{16,}|gsk_\w{20,}|AKIA[0-9A-Z]{16}|AIza[\w-]{35}|xox[abp]-[\w-]{10,})"
)
SECRET = re.compile(r"(^|_)(api_?keys?|secret\w*|password|(session|access|auth)_token)$")
SENTINEL = "5e9c2e7a-of-a-user"


@pytest.mark.promise("S3-38")
def test_no_key_is_written_down() -> None:
    published = [*PACKAGE.rglob("*.*"), *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    found = [
        where(path, number, match[0])
        for path in published
        if path.suffix in {".py", ".json", ".yaml", ".toml", ".md"}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := KEY.search(line))
    ]
    assert found == []


@pytest.mark.parametrize("key", ["sk-ant-" + "a1" * 20, "AKIA" + "A1" * 8, "sk-" + "b2" * 10])
def test_a_key_would_be_found(key: str) -> None:
    assert KEY.search(f'client = Client(api_key="{key}")')


def holders() -> Iterator[tuple[type, list[str]]]:
    """Every class of the package whose constructor takes a secret, with the secrets' names."""
    for name in map(module_of, package_files()):
        if name.endswith("__main__"):
            continue
        for cls in vars(importlib.import_module(name)).values():
            if not (inspect.isclass(cls) and cls.__module__ == name):
                continue
            secrets = [parameter for parameter in _parameters(cls) if SECRET.search(parameter)]
            if secrets:
                yield cls, secrets


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(cls).parameters)
    except (TypeError, ValueError):  # some built-in bases have no signature
        return {}


def shown(cls: type, secrets: list[str]) -> str:
    """What an instance with the sentinel as its secret says of itself."""
    required = [
        name
        for name, parameter in _parameters(cls).items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    given: dict[str, Any] = dict.fromkeys(required, "x")
    given |= {name: [SENTINEL] if name.endswith("s") else SENTINEL for name in secrets}
    try:
        instance = cls(**given)
    except (
        Exception
    ):  # "x" is not a valid value: check the fields that the repr of a dataclass includes
        declared = fields(cls) if is_dataclass(cls) else ()
        return " ".join(
            SENTINEL
            for f in declared
            if f.name in secrets and f.repr and "Secret" not in str(f.type)
        )
    return f"{instance!r} {instance}"


def test_no_object_shows_its_secrets() -> None:
    telling = [cls.__qualname__ for cls, secrets in holders() if SENTINEL in shown(cls, secrets)]
    assert telling == []


def test_a_telling_object_would_be_found() -> None:
    class Telling:
        def __init__(self, api_key: str) -> None:
            self.api_key = api_key

        def __repr__(self) -> str:
            return f"Telling({self.api_key})"

    assert SENTINEL in shown(Telling, ["api_key"])
