"""Reading YAML that somebody else may have written: bounded, plain, and with line numbers.

Only mappings with text keys, lists, text, numbers, true, false and null exist here (the core schema
of YAML 1.2: ``no`` and ``off`` are text). There are no tags and no objects; anchors may be used as
long as what they unfold to stays small.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any, Final

from agentkit.config.problems import Path, Places, Problem, discreet, missing, refuse
from agentkit.errors import ConfigurationError

LARGEST: Final = 1_000_000
"""Bytes of the largest file that is read; the largest sensible one has some thousand."""

_MOST_VALUES: Final = 10_000
"""Values in a file, each use of an anchor counted again."""

_TOO_MANY: Final = f"more than {_MOST_VALUES:,} values, those that anchors unfold to included"
_FEWER: Final = "is it the right file? write few values out, and drop the anchors"
_DEEPEST: Final = 32
_NOT_UTF8: Final = re.compile("[\udc80-\udcff]")
_SCALARS: Final = {
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]{1,18}", "-+0123456789"),
    "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
}
_TAG: Final = "tag:yaml.org,2002:"


def read_file(path: str | os.PathLike[str]) -> str:
    """The text of a configuration file.

    Raises:
        ConfigurationError: it cannot be read, is larger than 1 MB, or is not UTF-8.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - a pipe is welcome, too
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{name} cannot be read: {error.strerror or type(error).__name__}",
            hint="check the path, AGENTKIT_CONFIG and the file's permissions",
        ) from None
    if len(content) > LARGEST:
        raise ConfigurationError(
            f"{name} is larger than {LARGEST:,} bytes",
            hint="is it the right file? a configuration holds some lines for each provider",
        )
    text = content.decode("utf-8-sig", "surrogateescape")
    wrong = _NOT_UTF8.search(text)
    if wrong is None:
        return text
    line = text[: wrong.start()].count("\n") + 1
    byte = ord(wrong[0]) - 0xDC00
    raise ConfigurationError(
        f"{name}:{line}: not UTF-8: byte 0x{byte:02x}", hint="save the file as UTF-8"
    )


def parse(text: str, source: str) -> tuple[dict[str, Any], Places]:
    """The mapping in `text` and where each value stands; `source` names the file.

    Raises:
        ConfigurationError: no YAML, no mapping at the top, a duplicate key, a tag, too much.
        MissingDependencyError: PyYAML is not installed.
    """
    node = _compose(text, source)
    if node is None:
        _stop(source, 1, "the file is empty", "begin with `providers:`")
    reading = _Reading(source)
    value = reading.value(node, (), 0)
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a single value"
        _stop(source, 1, f"the file is {kind}, not a mapping", "begin with `providers:`")
    return value, Places(source, reading.lines)


def scalar(text: str) -> Any:
    """What `text` means where it stands alone in a file: a number, a truth value, null or text."""
    stripped = text.strip()
    for kind, (pattern, _) in _SCALARS.items():
        if stripped and re.fullmatch(pattern, stripped):
            return _convert(kind, stripped)
    return text


class _Reading:
    """One pass over the nodes of a file."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[Path, str] = {}
        self._count = 0

    def value(self, node: Any, path: Path, depth: int) -> Any:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > _MOST_VALUES:
            self._stop(line, _TOO_MANY, _FEWER)
        if depth > _DEEPEST:
            self._stop(line, f"nested deeper than {_DEEPEST} levels", "flatten it")
        self.lines.setdefault(path, f"{self.source}:{line}")
        kind = node.tag.removeprefix(_TAG)
        if node.id == "mapping" and kind == "map":
            return self._mapping(node, path, depth)
        if node.id == "sequence" and kind == "seq":
            return [
                self.value(item, (*path, index), depth + 1) for index, item in enumerate(node.value)
            ]
        if node.id == "scalar" and (kind == "str" or kind in _SCALARS):
            return _convert(kind, node.value)
        return self._stop(line, "a tag (`!…`)", "write plain text, numbers, lists and mappings")

    def _mapping(self, node: Any, path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if key.id != "scalar" or key.tag != f"{_TAG}str":
                self._stop(line, "a key that is no text", "put it into quotes")
            name = key.value
            if name in found:
                first = self.lines[*path, name].rpartition(":")[2]
                self._stop(
                    line,
                    f"the key `{discreet(name)}` stands here twice, first in line {first}",
                    "keep one of the two",
                )
            self.lines[*path, name] = f"{self.source}:{line}"
            found[name] = self.value(item, (*path, name), depth + 1)
        return found

    def _stop(self, line: int, text: str, remedy: str) -> Any:
        _stop(self.source, line, text, remedy)


def _compose(text: str, source: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise missing("PyYAML", f"reading {source}") from None
    try:
        return yaml.compose(text, Loader=_loader())
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        words = "a character that YAML forbids", "remove it, or save as UTF-8"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        words = _in_words(error, text, line, 0 if mark is None else mark.column)
    except RecursionError:
        line, words = 1, ("nested too deeply", "flatten it")
    return _stop(source, line, *words)  # out here: PyYAML's own error quotes the file


def _in_words(error: Any, text: str, line: int, column: int) -> tuple[str, str]:
    """PyYAML's complaint without the excerpts and names in it: they could be a key."""
    if error.problem == _TOO_MANY:
        return _TOO_MANY, _FEWER
    lines = text.splitlines()
    before = lines[line - 1][: column + 1] if line <= len(lines) else ""
    if "\t" in before:
        return "a tab", "indent with spaces"
    problem = re.sub(r"'[^']{2,}'", "(hidden)", str(error.problem or error.context))
    if "expected a single document" in str(error.context):
        return "a second document begins (`---`)", "keep one document in the file"
    return f"not YAML: {problem}", "check the indentation, and quote texts with : # * & or !"


def _stop(source: str, line: int, text: str, remedy: str) -> Any:
    refuse([Problem((), text, remedy)], Places(f"{source}:{line}", {}))


def _convert(kind: str, text: str) -> Any:
    if kind == "str":
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    return int(text) if kind == "int" else float(text)


@functools.cache
def _loader() -> Any:
    import yaml

    class Plain(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML is untyped
        nodes = 0
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own form

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.nodes += 1
            if self.nodes > 2 * _MOST_VALUES:  # a value and perhaps its key
                mark = self.peek_event().start_mark
                raise yaml.MarkedYAMLError(problem=_TOO_MANY, problem_mark=mark)
            return super().compose_node(parent, index)

    for kind, (pattern, first) in _SCALARS.items():
        starts = [*first, ""] if kind == "null" else list(first)
        Plain.add_implicit_resolver(f"{_TAG}{kind}", re.compile(f"^(?:{pattern})$"), starts)
    return Plain
