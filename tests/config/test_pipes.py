"""A configuration and a key may come from a pipe, but no pipe makes the program wait forever."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import pytest

from agentkit.config import files, load_settings
from agentkit.errors import ConfigurationError

TEXT = "providers: {openai: {api_keys: a-key}}"
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")


def test_a_pipe_without_a_writer_is_an_error() -> None:
    os.mkfifo("pipe")
    with pytest.raises(ConfigurationError, match=r"pipe cannot be read: .* without a writer"):
        load_settings("pipe", {})
    Path("llm.yaml").write_text(TEXT.replace("a-key", "file:pipe"), "utf-8")
    with pytest.raises(ConfigurationError, match=r"file pipe cannot be read: .* without a writer"):
        load_settings("llm.yaml", {})


def test_a_pipe_is_read_to_its_end() -> None:
    read, out = os.pipe()
    half = len(TEXT) // 2
    os.write(out, TEXT[:half].encode())

    def write_the_rest() -> None:
        os.write(out, TEXT[half:].encode())
        os.close(out)

    threading.Timer(0.02, write_the_rest).start()
    assert list(load_settings(f"/dev/fd/{read}", {}).providers) == ["openai"]
    os.close(read)


def test_a_writer_that_writes_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.01)
    read, out = os.pipe()
    with pytest.raises(ConfigurationError, match="without a writer"):
        load_settings(f"/dev/fd/{read}", {})
    os.close(read)
    os.close(out)


def test_a_process_with_many_open_files_can_read_a_pipe() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("the system allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    read, out = os.pipe()
    taken = [os.dup(read) for _ in range(1024)]

    def write() -> None:
        os.write(out, TEXT.encode())
        os.close(out)

    threading.Timer(0.02, write).start()
    try:
        assert list(load_settings(f"/dev/fd/{read}", {}).providers) == ["openai"]
    finally:
        for each in (read, *taken):
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
