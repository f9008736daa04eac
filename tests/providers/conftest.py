"""What every test of an adapter gets."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_certificates(_isolated: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The servers here speak plain HTTP, and reading certificates is what makes a client slow."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
