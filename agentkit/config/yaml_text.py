"""YAML for configuration files: a bounded, plain subset, with a line number for every value.

Mappings with string keys, lists, strings, numbers, true, false and null, as in the core schema of
YAML 1.2 (``no``, ``off`` and ``2024-01-01`` are strings). Tags are errors, and so are duplicate
keys. Anchors work as long as their expansion stays small.

PyYAML parses, and this module turns its nodes into values. Loaders that do both (PyYAML's own,
ruamel.yaml) accept anchors that expand without bound and files of any size, turn dates into
objects, and quote the file in their error messages, where the quoted line may contain a key.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any, Final, NoReturn

from agentkit.config.files import read_bytes
from agentkit.config.problems import Locations, Path, Problem, raise_problems, redact
from agentkit.errors import ConfigurationError, MissingDependencyError

MAX_BYTES: Final = 1_000_000
"""The size of the largest file that is read; a sensible one has a few thousand bytes."""

_MAX_VALUES: Final = 10_000
"""Values in a file; each use of an anchor counts again."""

_TOO_MANY: Final = f"more than {_MAX_VALUES:,} values, counting each use of an anchor"
_FEWER: Final = "check that this is the right file, and use fewer anchors"
_MAX_DEPTH: Final = 32
_NOT_UTF8: Final = re.compile("[\udc80-\udcff]")
_SCALARS: Final = {
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]{1,18}", "-+0123456789"),
    "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
}
"""Each kind of scalar that is not a string: its pattern, and the characters it starts with."""

_TAG: Final = "tag:yaml.org,2002:"


def read_file(path: str | os.PathLike[str]) -> str:
    """The text of a configuration file.

    Raises:
        ConfigurationError: it cannot be read, is larger than 1 MB, or is not UTF-8.
    """
    name = os.fspath(path)
    try:
        content = read_bytes(name, MAX_BYTES)
    except OSError as error:
        raise ConfigurationError(
            f"{name} cannot be read: {error.strerror or type(error).__name__}",
            hint="check the path, AGENTKIT_CONFIG and the permissions of the file",
        ) from None
    if len(content) > MAX_BYTES:
        raise ConfigurationError(
            f"{name} is larger than {MAX_BYTES:,} bytes",
            hint="check that this is the right file; a configuration has a few lines per provider",
        )
    text = content.decode("utf-8-sig", "surrogateescape")
    invalid = _NOT_UTF8.search(text)
    if invalid is None:
        return text
    line = text[: invalid.start()].count("\n") + 1
    byte = ord(invalid[0]) - 0xDC00
    raise ConfigurationError(
        f"{name}:{line}: not UTF-8: byte 0x{byte:02x}", hint="save the file as UTF-8"
    )


def parse(text: str, source: str) -> tuple[dict[str, Any], Locations]:
    """The mapping in `text` and the location of each value; `source` names the file.

    Raises:
        ConfigurationError: invalid YAML, not a mapping, a duplicate key, a tag, or too large.
        MissingDependencyError: PyYAML is not installed.
    """
    node = _compose(text, source)
    if node is None:
        _fail(source, 1, "the file is empty", "begin with `providers:`")
    reader = _NodeReader(source)
    value = reader.value(node, (), 0)
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a single value"
        _fail(source, 1, f"the file is {kind}, not a mapping", "begin with `providers:`")
    return value, Locations(source, reader.lines)


def parse_scalar(text: str) -> Any:
    """The value that `text` has in a file: a number, a boolean, null or the string itself."""
    stripped = text.strip()
    for kind, (pattern, _) in _SCALARS.items():
        if stripped and re.fullmatch(pattern, stripped):
            return _convert(kind, stripped)
    return text


class _NodeReader:
    """Turns the nodes of one file into values, and keeps the line of each."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[Path, str] = {}
        self._count = 0

    def value(self, node: Any, path: Path, depth: int) -> Any:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > _MAX_VALUES:
            _fail(self.source, line, _TOO_MANY, _FEWER)
        if depth > _MAX_DEPTH:
            _fail(self.source, line, f"nested deeper than {_MAX_DEPTH} levels", "flatten it")
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
        remedy = "use plain strings, numbers, lists and mappings"
        return _fail(self.source, line, "a tag (`!…`)", remedy)

    def _mapping(self, node: Any, path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if key.id != "scalar" or key.tag != f"{_TAG}str":
                _fail(self.source, line, "a key that is not a string", "put it in quotes")
            name = key.value
            if name in found:
                first = self.lines[*path, name].rpartition(":")[2]
                text = f"duplicate key `{redact(name)}`, first used in line {first}"
                _fail(self.source, line, text, "remove one of the two")
            self.lines[*path, name] = f"{self.source}:{line}"
            found[name] = self.value(item, (*path, name), depth + 1)
        return found


def _compose(text: str, source: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f"reading {source} needs PyYAML, which is not installed",
            hint='pip install "agentkit-llms[config]"',
        ) from None
    try:
        return yaml.compose(text, Loader=_loader())
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        problem = "a character that YAML does not allow", "remove it, or save the file as UTF-8"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        problem = _describe(error, text, line, 0 if mark is None else mark.column)
    except RecursionError:
        line, problem = 1, ("nested too deeply", "flatten it")
    return _fail(source, line, *problem)  # outside `except`: PyYAML's error quotes the file


def _describe(error: Any, text: str, line: int, column: int) -> tuple[str, str]:
    """PyYAML's error without excerpts and names, which could be a key; and the remedy."""
    if error.problem == _TOO_MANY:
        return _TOO_MANY, _FEWER
    lines = text.splitlines()
    before = lines[line - 1][: column + 1] if line <= len(lines) else ""
    if "\t" in before:
        return "a tab", "indent with spaces"
    problem = re.sub(r"'[^']{2,}'", "(hidden)", str(error.problem or error.context))
    if "expected a single document" in str(error.context):
        return "a second document begins (`---`)", "keep one document in the file"
    return f"invalid YAML: {problem}", "check the indentation, and quote strings with : # * & or !"


def _fail(source: str, line: int, text: str, remedy: str) -> NoReturn:
    raise_problems([Problem((), text, remedy)], Locations(f"{source}:{line}", {}))


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
    """PyYAML's safe loader with the scalars of YAML 1.2 and a limit on the number of nodes."""
    import yaml

    class CoreLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML is untyped
        nodes = 0
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own form

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.nodes += 1
            if self.nodes > 2 * _MAX_VALUES:  # each value, and its key in a mapping
                mark = self.peek_event().start_mark
                raise yaml.MarkedYAMLError(problem=_TOO_MANY, problem_mark=mark)
            return super().compose_node(parent, index)

    for kind, (pattern, first) in _SCALARS.items():
        starts = [*first, ""] if kind == "null" else list(first)
        CoreLoader.add_implicit_resolver(f"{_TAG}{kind}", re.compile(f"^(?:{pattern})$"), starts)
    return CoreLoader
