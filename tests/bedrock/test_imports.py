"""Every public name is importable from one place, and importing it costs no SDK."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agentkit import bedrock


@pytest.mark.promise("S1-02", "S1-03")
@pytest.mark.parametrize("name", bedrock.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(bedrock, name) is not None
    assert name in dir(bedrock)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        bedrock.nothing  # noqa: B018


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
