"""What README, the pages and the examples show is what happens."""

from __future__ import annotations

import ast
import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.blocks import Block, blocks, run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if any(block.language == "python" for block in blocks(page))
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
RUN_EXAMPLE = """
import runpy, sys
root, sys.argv = sys.argv[1], sys.argv[2:]
sys.path.insert(0, root)
from agentkit.testing import forbid_network
sys.path.pop(0)
with forbid_network():
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_the_blocks_of_a_page_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # what a page defines can be looked up
    with asyncio.Runner() as loop:
        for block in blocks(page):
            if block.language != "python" or block.is_include:
                continue
            if block.runs:
                run(block, page, vars(module), loop)
            else:
                assert block.code.startswith("#"), f"line {block.line}: say why it does not run"
                compile(block.code, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.processes
@pytest.mark.parametrize("example", EXAMPLES, ids=relative)
def test_an_example_runs_without_a_warning_and_without_the_network(
    example: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", RUN_EXAMPLE, str(ROOT), str(example)]
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    finished = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""


def first_block(tmp_path: Path, text: str) -> tuple[Block, Path]:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return next(blocks(page)), page


@pytest.mark.parametrize(
    ("code", "holds"),
    [
        ("print(1)\n#> 1", True),
        ("print(1)\n#> 2", False),
        ("for i in (1, 2):\n    print(i)\n    #> 1\n    #> 2", True),
        ("print(1)\nprint(2)\n#> 2", True),
        ("x = '#> no output'", True),
        ("x = 1\n#> never printed", False),
        ("print('took 12 ms')\n#> took ... ms", True),
        ("import asyncio\nprint(await asyncio.sleep(0, 'awaited'))\n#> awaited", True),
    ],
)
def test_the_output_lines_are_compared(tmp_path: Path, code: str, holds: bool) -> None:
    block, page = first_block(tmp_path, f"Text.\n\n```python\n{code}\n```\n")
    with asyncio.Runner() as loop:
        if holds:
            run(block, page, {}, loop)
        else:
            with pytest.raises(AssertionError, match="prints"):
                run(block, page, {}, loop)


def test_a_block_is_found_where_it_is_indented(tmp_path: Path) -> None:
    block, _ = first_block(tmp_path, "- item\n\n    ```python no-run\n    # why\n    x\n    ```\n")
    assert block == Block("python no-run", "# why\nx\n", 4)
    assert not block.runs
