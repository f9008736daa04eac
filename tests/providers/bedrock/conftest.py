"""What tests of both transports share."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["sdk", "native"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The transport of the targets that the test makes."""
    name: str = request.param
    monkeypatch.setenv("AGENTKIT_TRANSPORT", name)
    return name
