"""Every public name is importable from one place, and importing it costs no SDK."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agentkit import bedrock
from agentkit.bedrock import LLMManagerError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.promise("S1-02", "S1-03")
@pytest.mark.parametrize("name", bedrock.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(bedrock, name) is not None
    assert name in dir(bedrock)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        getattr(bedrock, "nothing")  # noqa: B009 - a type checker would refuse it


@pytest.mark.processes
def test_importing_every_name_loads_no_sdk_and_opens_no_socket() -> None:
    program = (
        "import sys\n"
        "sys.addaudithook(lambda event, _: event.startswith('socket.') and sys.exit(event))\n"
        "from agentkit.bedrock import *\n"
        "loaded = {'boto3', 'botocore', 'rich', 'opentelemetry.sdk'} & set(sys.modules)\n"
        "sys.exit(str(loaded) if loaded else 0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.promise("S1-85")
def test_every_error_is_an_llm_manager_error() -> None:
    errors = [
        found
        for name in bedrock.__all__
        if isinstance(found := getattr(bedrock, name), type) and issubclass(found, BaseException)
    ]
    assert len(errors) > 8
    assert all(issubclass(each, LLMManagerError) for each in errors)


@pytest.mark.promise("S0-69")
def test_the_lowest_python_version_is_declared() -> None:
    """3.9 and 3.10, which the documents name, end of life: the floor is chosen deliberately."""
    declared = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'requires-python = ">=3.11"' in declared
    for version in ("3.11", "3.12", "3.13"):
        assert f"Python :: {version}" in declared
