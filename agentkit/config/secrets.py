"""API keys from the file itself, from variables and from other files. No error shows a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final

from agentkit.config.problems import Path, Problem
from agentkit.providers.registry import ProviderInfo

_PLACEHOLDER: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
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

        def value_of(found: re.Match[str]) -> str:
            names.append(found[1])
            value = self.environ.get(found[1], "") or found[2]
            if not value:
                state = "is empty" if found[1] in self.environ else "is not set"
                raise _problem(path, f"the variable {found[1]} {state}", f"set {found[1]} to a key")
            return value

        value = _PLACEHOLDER.sub(value_of, text)
        if "${" in _PLACEHOLDER.sub("", text):
            raise _problem(path, "incomplete placeholder", "write ${VARIABLE}")
        return value, ", ".join(names)

    def _read(self, name: str, path: Path) -> str:
        file = self.directory / name
        try:
            with file.open("rb") as opened:
                content = opened.read(_MAX_BYTES + 1)
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


def split(text: str) -> list[str]:
    """The parts of `text` between commas, stripped, without empty ones."""
    return [part for each in text.split(",") if (part := each.strip())]


def _problem(path: Path, text: str, remedy: str) -> KeyProblem:
    return KeyProblem(Problem(path, text, remedy))
