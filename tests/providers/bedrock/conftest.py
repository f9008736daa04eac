"""What tests of both transports share."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader


@pytest.fixture(scope="session", autouse=True)
def _descriptions_read_once() -> Iterator[None]:
    """Read each of botocore's large descriptions of services once, and not for each session."""
    read = JSONFileLoader.load_file

    @functools.cache
    def once(path: str) -> Any:
        return read(JSONFileLoader(), path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: once(path))
        yield


@pytest.fixture(params=["sdk", "native"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The transport of the targets that the test makes."""
    name: str = request.param
    monkeypatch.setenv("AGENTKIT_TRANSPORT", name)
    return name
