"""Where keys come from: text, variables, files. What goes wrong is said without any of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final

from agentkit.config.problems import Path, Problem

_PLACEHOLDER: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_BARE: Final = re.compile(r"\$[A-Z_][A-Z0-9_]*")
_FILE: Final = "file:"
_LARGEST: Final = 65_536


class SecretProblem(Exception):  # noqa: N818 - it carries a problem, and is never seen by users
    """Carries a `Problem` out of the depths."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Key:
    """One key and where it came from, for people."""

    secret: str = field(repr=False)
    origin: str


@dataclass(frozen=True, slots=True)
class Keyring:
    """Resolves what stands in a file. `directory` is what a relative ``file:`` path starts from."""

    environ: Mapping[str, str] = field(repr=False)
    directory: FilePath

    def resolve(self, text: str, path: Path, place: str, *, several: bool) -> list[Key]:
        """The key or, if it may hold `several` separated by commas, the keys that `text` means.

        Raises:
            SecretProblem: a variable or file is missing or empty, or it is no key.
        """
        value, origin = self._expanded(text.strip(), path, place)
        parts = split(value) if several else [value.strip()]
        if not any(parts):
            raise _stop(path, "is empty", "fill it in, or leave it out to use the variables")
        for part in parts:
            self._check(part, path)
        return [Key(part, origin) for part in parts]

    def from_variables(self, names: tuple[str, ...]) -> list[Key]:
        """The keys in the first of the variables `names` that holds any; none: an empty list.

        Blanks around a key do not count, nor does an empty one: a variable that holds nothing else
        is as good as unset.

        Raises:
            SecretProblem: what stands in it is no key, or stands there twice.
        """
        for name in names:
            value = self.environ.get(name, "")
            parts = split(value) if name.endswith("S") else [value.strip()]
            found = [Key(part, name) for part in parts if part]
            if found:
                for each in found:
                    self._check(each.secret, (), f"{name}: ")
                return found
        return []

    def _expanded(self, text: str, path: Path, place: str) -> tuple[str, str]:
        if text.startswith(_FILE):
            return self._read(text.removeprefix(_FILE), path), text
        if "${" not in text:
            if _BARE.fullmatch(text):
                raise _stop(path, f"{text} is no key", f"write ${{{text[1:]}}} for the variable")
            return text, place
        names: list[str] = []

        def value_of(found: re.Match[str]) -> str:
            names.append(found[1])
            value = self.environ.get(found[1], "") or found[2]
            if not value:
                state = "is empty" if found[1] in self.environ else "is not set"
                raise _stop(path, f"the variable {found[1]} {state}", f"set {found[1]} to a key")
            return value

        value = _PLACEHOLDER.sub(value_of, text)
        if "${" in _PLACEHOLDER.sub("", text):
            raise _stop(path, "a placeholder that is not complete", "write ${VARIABLE}")
        return value, ", ".join(names)

    def _read(self, name: str, path: Path) -> str:
        file = self.directory / name
        try:
            with file.open("rb") as opened:
                content = opened.read(_LARGEST + 1)
            text = content.decode("utf-8-sig").strip()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise _stop(
                path, f"the file {name} cannot be read: {why}", "check path and permissions"
            ) from None
        if not text or len(content) > _LARGEST:
            what = "empty" if not text else f"larger than {_LARGEST:,} bytes"
            raise _stop(path, f"the file {name} is {what}", "put one key into it")
        return text

    def _check(self, secret: str, path: Path, prefix: str = "") -> None:
        if not secret:
            raise _stop(path, f"{prefix}one of the keys is empty", "remove the extra comma")
        if not (secret.isascii() and secret.isprintable()) or re.search(r"[\s,]", secret):
            raise _stop(
                path,
                f"{prefix}a key with a blank, a comma or a character that no key has",
                "check that it was copied whole, and put several keys into a list",
            )


def split(text: str) -> list[str]:
    """Parts between commas, without blanks around them and without empty ones."""
    return [part for each in text.split(",") if (part := each.strip())]


def _stop(path: Path, text: str, remedy: str) -> SecretProblem:
    return SecretProblem(Problem(path, text, remedy))


def directory_of(source: str | os.PathLike[str] | None) -> FilePath:
    """The directory that a relative ``file:`` path starts from."""
    return FilePath() if source is None else FilePath(source).parent
