"""The site leads on from every page, needs no other server, and works in a browser from a disk."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
GENERATED = {"promises.md"}
pytestmark = pytest.mark.timeout(180)  # the first to need the site builds it
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
OFFLINE = [
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=10000",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*?\ssrc=["']?(https?:[^"'>\s]+)"""
    r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|icon|pre))[^>]*href=["']?(https?:[^"'>\s]+)"""
    r"""|url\(["']?(https?:[^"')]+)"""
)


def relative(path: Path) -> str:
    return path.relative_to(ROOT / "docs").as_posix()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in GENERATED], ids=relative
)
def test_a_page_ends_with_a_link_to_another(page: Path) -> None:
    last = page.read_text(encoding="utf-8").rstrip().rpartition("\n\n")[2]
    assert re.search(r"\]\([^)#:]+\.md[^)]*\)", last), "end it with a line that begins with 'Next:'"


def test_nothing_is_loaded_from_another_server(site: Path) -> None:
    files = [path for kind in ("*.html", "*.css") for path in site.rglob(kind)]
    found = {
        f"{path.relative_to(site)}: {''.join(address)}"
        for path in files
        for address in LOADED.findall(path.read_text(encoding="utf-8"))
    }
    assert found == set()


def opened(address: str, profile: Path) -> tuple[str, list[str]]:
    """A page as a browser without a network shows it, and what its console complains about."""
    assert CHROMIUM
    command = [CHROMIUM, *OFFLINE, f"--user-data-dir={profile}", "--dump-dom", address]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=150, check=True)
    return finished.stdout, [line for line in finished.stderr.splitlines() if "CONSOLE" in line]


browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@browser
def test_search_finds_a_method_by_its_name(site: Path, tmp_path: Path) -> None:
    shown, complaints = opened(f"{(site / 'index.html').as_uri()}?q=set_fallback_chain", tmp_path)
    results = shown[shown.index('class="md-search-result__list"') :]
    first = re.search(r'href="([^"]*#[^"]*)"', results)
    assert first
    assert first[1].endswith("#agentkit.LLMManager.set_fallback_chain")
    assert complaints == []


@browser
def test_every_diagram_is_drawn(site: Path, tmp_path: Path) -> None:
    drawn = [page for page in PAGES if "```mermaid" in page.read_text(encoding="utf-8")]
    built = [site / Path(relative(page)).with_suffix(".html") for page in drawn]
    together = tmp_path / "together.html"
    frames = "".join(f'<iframe src="{page.as_uri()}"></iframe>' for page in built)
    together.write_text(f"<!doctype html><body>{frames}", encoding="utf-8")

    _, complaints = opened(together.as_uri(), tmp_path / "together")
    shown, _ = opened(built[0].as_uri(), tmp_path / "first")

    assert complaints == []
    assert re.search(r'<div class="diagram"[^>]*><svg', shown)
