"""API keys from the file itself, from variables and from other files. No error shows a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final

from agentkit.config.files import read_bytes
from agentkit.config.problems import Path, Problem
from agentkit.providers.registry import ProviderInfo

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACES: Final = re.compile(r"\$\{|\}")
_MAX_DEPTH: Final = 10
_BARE: Final = re.compile(r"\$[A-Z_][A-Z0-9_]*")
_FILE: Final = "file:"
_MAX_BYTES: Final = 65_536


class KeyProblem(Exception):  # noqa: N818 - internal: it carries a problem to the resolver
    """Carries the `Problem` of a key to the caller that collects problems."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Key:
    """One key and where it comes from: a file and line, or a variable."""

    secret: str = field(repr=False)
    origin: str


@dataclass(frozen=True, slots=True)
class Keyring:
    """Resolves ``api_keys``. Relative ``file:`` paths start at `directory`."""

    environ: Mapping[str, str] = field(repr=False)
    directory: FilePath

    def resolve(self, text: str, path: Path, location: str, *, several: bool) -> list[Key]:
        """The key that `text` stands for; with `several`, the keys, separated by commas.

        Raises:
            KeyProblem: a variable or file is missing or empty, or the value is not a key.
        """
        value, origin = self._expand(text.strip(), path, location)
        parts = split(value) if several else [value.strip()]
        if not any(parts):
            raise _problem(path, "is empty", "fill it in, or leave it out to use the variables")
        for part in parts:
            self._check(part, path)
        return [Key(part, origin) for part in parts]

    def expand(self, text: str, path: Path) -> str:
        """`text` with the values of its placeholders.

        Raises:
            KeyProblem: a variable is missing or empty.
        """
        return self._replace(text, path, [])

    def from_variables(self, info: ProviderInfo) -> list[Key]:
        """The keys in the first of the provider's variables that contains any, else an empty list.

        Spaces around a key and empty items are ignored; a variable with nothing else counts as
        unset.

        Raises:
            KeyProblem: a value is not a key.
        """
        for name in info.all_key_variables:
            value = self.environ.get(name, "")
            parts = split(value) if name == info.key_list_variable else [value.strip()]
            found = [Key(part, name) for part in parts if part]
            if found:
                for each in found:
                    self._check(each.secret, (), f"{name}: ")
                return found
        return []

    def _expand(self, text: str, path: Path, location: str) -> tuple[str, str]:
        if text.startswith(_FILE):
            return self._read(text.removeprefix(_FILE), path), text
        if "${" not in text:
            if _BARE.fullmatch(text):
                raise _problem(
                    path, f"{text} is not a key", f"write ${{{text[1:]}}} for the variable"
                )
            return text, location
        names: list[str] = []
        value = self._replace(text, path, names)
        return value, ", ".join(names)

    def _replace(self, text: str, path: Path, names: list[str]) -> str:
        """`text` with the values of its placeholders. Their variables are added to `names`."""
        parts: list[str] = []
        before, opening, rest = text.partition("${")
        while opening:
            inner, rest = _split_at_closing(rest, path)
            parts += before, self._value_of(inner, path, names)
            before, opening, rest = rest.partition("${")
        return "".join([*parts, before])

    def _value_of(self, inner: str, path: Path, names: list[str]) -> str:
        """The value of the placeholder with `inner` between its braces."""
        name, _, default = inner.partition(":-")
        if not _VARIABLE.fullmatch(name):
            raise _problem(path, "incomplete placeholder", "write ${VARIABLE}")
        names.append(name)
        value = self.environ.get(name, "") or self._replace(default, path, names)
        if not value:
            state = "is empty" if name in self.environ else "is not set"
            raise _problem(path, f"the variable {name} {state}", f"set {name} to a key")
        return value

    def _read(self, name: str, path: Path) -> str:
        file = self.directory / name
        try:
            content = read_bytes(file, _MAX_BYTES)
            text = content.decode("utf-8-sig").strip()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8 text"
            raise _problem(
                path, f"the file {name} cannot be read: {why}", "check path and permissions"
            ) from None
        if not text or len(content) > _MAX_BYTES:
            what = "empty" if not text else f"larger than {_MAX_BYTES:,} bytes"
            raise _problem(path, f"the file {name} is {what}", "put one key into it")
        return text

    def _check(self, secret: str, path: Path, prefix: str = "") -> None:
        if not secret:
            raise _problem(path, f"{prefix}one of the keys is empty", "remove the extra comma")
        if not (secret.isascii() and secret.isprintable()) or re.search(r"[\s,]", secret):
            raise _problem(
                path,
                f"{prefix}a key with a space, a comma or another character that keys never contain",
                "check that the complete key was copied, and write several keys as a list",
            )


def _split_at_closing(text: str, path: Path) -> tuple[str, str]:
    """What comes before the brace that closes a placeholder, and what comes after it."""
    depth = 0
    for found in _BRACES.finditer(text):
        if found[0] == "${":
            depth += 1
        elif depth:
            depth -= 1
        else:
            return text[: found.start()], text[found.end() :]
        if depth > _MAX_DEPTH:
            break
    raise _problem(path, "incomplete placeholder", "write ${VARIABLE}")


def split(text: str) -> list[str]:
    """The parts of `text` between commas, stripped, without empty ones."""
    return [part for each in text.split(",") if (part := each.strip())]


def _problem(path: Path, text: str, remedy: str) -> KeyProblem:
    return KeyProblem(Problem(path, text, remedy))
