"""What every test gets: an empty environment, its own directories and no way out of the machine."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from agentkit.testing import forbid_network

# Anything a developer's shell may hold that would change what agentkit or an SDK does.
_FOREIGN = re.compile(
    r"^(AGENTKIT|OTEL|AWS|OPENAI|ANTHROPIC|GOOGLE|GEMINI|GROQ)_|_(API_KEY|MODEL|BASE_URL)$|_PROXY$",
    re.IGNORECASE,
)

settings.register_profile("default", max_examples=50, deadline=None)
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

_OFFLINE = forbid_network()
_OFFLINE.__enter__()  # for the life of the process, collection included


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, no setting and no file of the developer reaches a test."""
    for name in list(os.environ):
        if _FOREIGN.search(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AGENTKIT_CACHE_DIR", str(tmp_path / "responses"))


@pytest.fixture
def network_allowed() -> Iterator[None]:
    """Lift the suite's own lock on the network, for tests of that lock."""
    _OFFLINE.__exit__(None, None, None)
    yield
    _OFFLINE.__enter__()


@pytest.fixture
def ctrl_c_works() -> Iterator[None]:
    """Have SIGINT raise KeyboardInterrupt, which it does not do in a background job of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
