"""The fenced blocks of a page, and how a reader would run them."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import itertools
import re
import textwrap
import tokenize
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`\n]*)$")


class Block(NamedTuple):
    """One fenced block: what stands after the ticks, its code and its first line in the page."""

    info: str
    code: str
    line: int

    @property
    def language(self) -> str:
        """The first word after the ticks."""
        return self.info.split(maxsplit=1)[0] if self.info else ""

    @property
    def runs(self) -> bool:
        """False for `python no-run`, which must open with a comment that says why."""
        return "no-run" not in self.info.split()

    @property
    def is_include(self) -> bool:
        """Whether the block only includes a file, which is run by itself."""
        return all(line.startswith("--8<--") for line in self.code.split("\n") if line.strip())


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, in order; indented ones (lists, tabs) too."""
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        opening = _FENCE.match(line)
        if opening:
            closing = re.compile(rf" *`{{{len(opening['ticks'])},}} *")
            body = itertools.takewhile(partial(_is_inside, closing), lines)
            code = textwrap.dedent("\n".join(text for _, text in body)) + "\n"
            yield Block(opening["info"].strip(), code, number + 1)


def _is_inside(closing: re.Pattern[str], row: tuple[int, str]) -> bool:
    return not closing.fullmatch(row[1])


def run(block: Block, page: Path, namespace: dict[str, Any], loop: asyncio.Runner) -> None:
    """Execute a block statement by statement and compare what it prints with its `#>` lines.

    Raises:
        AssertionError: a statement printed something else than the `#>` lines in and after it
            say; ``...`` in such a line stands for any text.
    """
    tree = ast.parse(block.code, filename=str(page))
    expected = _outputs(block.code)
    ends = [statement.lineno for statement in tree.body[1:]] + [block.code.count("\n") + 2]
    for statement, end in zip(tree.body, ends, strict=True):
        first = statement.lineno
        wanted = [text for line, text in expected.items() if first <= line < end]
        ast.increment_lineno(statement, block.line - 1)  # tracebacks point into the page
        printed = _execute(statement, page, namespace, loop).splitlines()
        if wanted and not _same([line.rstrip() for line in printed], wanted):
            shown = "\n".join(f"#> {line}" for line in printed)
            msg = f"{page.name}:{block.line + first - 1} prints\n{shown}"
            raise AssertionError(msg)


def _execute(
    statement: ast.stmt, page: Path, namespace: dict[str, Any], loop: asyncio.Runner
) -> str:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(ast.Module([statement], []), str(page), "exec", flags=flags)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        result = eval(code, namespace)
        if inspect.iscoroutine(result):
            loop.run(result)
    return output.getvalue()


def _outputs(code: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    comments = (token for token in tokens if token.type == tokenize.COMMENT)
    return {
        token.start[0]: token.string[2:].removeprefix(" ").rstrip()
        for token in comments
        if token.string.startswith("#>")
    }


def _same(printed: list[str], wanted: list[str]) -> bool:
    pattern = r"\n".join(".*".join(map(re.escape, line.split("..."))) for line in wanted)
    return re.fullmatch(pattern, "\n".join(printed)) is not None
