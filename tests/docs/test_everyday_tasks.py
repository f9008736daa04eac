"""What most programs need is found in two clicks, or with one search."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.docs.blocks import blocks
from tests.docs.test_site import CHROMIUM, OFFLINE, browser

ROOT = Path(__file__).resolve().parents[2]
TASKS = {
    "FastAPI": "fastapi",
    "stream to a browser": "fastapi",
    "structured output": "structured-output",
    "agent tools": "tools",
    "several keys": "keys",
    "spending budget": "cost",
    "cache off": "turn-off-the-cache",
    "OTLP": "export-telemetry",
    "Prometheus": "export-telemetry",
    "unit tests": "test-your-app",
    "log prompts": "log-prompts",
    "timeouts": "timeouts",
    "handle errors": "handle-errors",
    "local models": "local-models",
    "Bedrock": "bedrock-regions",
    "10,000 prompts": "batch",
}
"""What a reader looks for, and the page of `docs/how-to` that has it."""

FIRST = 2  # a result of the search on the first screen, above the fold of a phone
SEARCHES = """
const tasks = %s, found = [];
const page = document.querySelector("iframe");
const results = () => page.contentDocument.querySelector(".md-search-result__list");
let before = "";
setInterval(() => {
  const shown = results()?.innerHTML;
  if (!shown || shown === before || found.length === tasks.length) return;
  before = shown;
  found.push([...results().children].map((item) => item.querySelector("a").pathname));
  document.querySelector("pre").textContent = JSON.stringify(found);
  const field = page.contentDocument.querySelector(".md-search__input");
  field.value = tasks[found.length] ?? "";
  field.dispatchEvent(new page.contentWindow.KeyboardEvent("keyup", {bubbles: true}));
}, 200);
"""
"""Types one task after another into the search of a page, which loads its index once."""


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)#]+)", (ROOT / "docs" / page).read_text("utf-8"))


def test_each_task_is_two_clicks_away() -> None:
    assert "how-to/everyday-tasks.md" in links("index.md")
    page = (ROOT / "docs/how-to/everyday-tasks.md").read_text("utf-8")
    listed = re.findall(r"^- \*\*\[[^\]]+\]\(([\w-]+)\.md", page, re.MULTILINE)
    assert sorted(listed) == sorted(TASKS.values())


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 120
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == [
        "## The problem",
        "## Install",
        "## Use it",
        "## What it does",
        "## Where next",
    ]


def test_each_example_is_on_its_page() -> None:
    files = {path.name for path in (ROOT / "examples").glob("*.py")}
    shown = re.findall(r'--8<-- "examples/([^"]+)"', (ROOT / "docs/examples.md").read_text("utf-8"))
    assert sorted(shown) == sorted(files)


@browser
@pytest.mark.timeout(180)
def test_a_search_finds_each_task(site: Path, tmp_path: Path) -> None:
    start = f"{(site / 'index.html').as_uri()}?q={quote(next(iter(TASKS)))}"
    script = SEARCHES % json.dumps(list(TASKS))
    page = tmp_path / "searches.html"
    page.write_text(
        f'<!doctype html><body><iframe src="{start}"></iframe><pre></pre><script>{script}</script>'
    )
    assert CHROMIUM
    # The frame is a file, too: without these two options, a page may not look into it.
    options = ["--allow-file-access-from-files", "--disable-web-security"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    shown = subprocess.run(
        [CHROMIUM, *OFFLINE, *options, profile, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=150,
        check=True,
    ).stdout
    written = re.search(r"<pre>(.*?)</pre>", shown, re.DOTALL)
    assert written, shown[-2000:]
    missed = {
        task: [Path(path).name for path in paths[:5]]
        for (task, name), paths in zip(TASKS.items(), json.loads(written[1]), strict=True)
        if f"{name}.html" not in [Path(path).name for path in paths[:FIRST]]
    }
    assert missed == {}


@pytest.mark.processes
def test_the_tests_that_a_page_shows_pass(tmp_path: Path) -> None:
    page = ROOT / "docs/how-to/test-your-app.md"
    code = [block.code for block in blocks(page) if block.language == "python"]
    tests = next(at for at, each in enumerate(code) if "def test_" in each)
    (tmp_path / "test_page.py").write_text("\n".join(code[: tests + 1]), "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:anyio"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "2 passed" in finished.stdout
