"""A file of 48 prompts, and the places where a batch of them writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentkit import join_shards


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    items = ({"prompt": f"question {number}", "max_tokens": 100} for number in range(48))
    path.write_text("".join(f"{json.dumps(each)}\n" for each in items))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def require_each_once(folder: Path, number: int = 48) -> None:
    """Each line of the file has one answer in `folder`, in order."""
    assert join_shards(folder, folder / "joined") == number
    results = list(map(json.loads, (folder / "joined").read_text().splitlines()))
    assert [each["index"] for each in results] == list(range(number))
    assert not any("error" in each for each in results)
