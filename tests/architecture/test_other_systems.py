"""The package runs where Python lacks what only Unix has; there is no Windows in these tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

WITHOUT_UNIX = """
import asyncio, importlib, multiprocessing, os, pkgutil, signal, sqlite3, subprocess, sys, tempfile

for name in (
    "register_at_fork", "fork", "forkpty", "geteuid", "getuid", "getegid", "getpgid", "killpg",
    "setsid", "fchmod", "chown", "mkfifo", "sysconf", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK",
    "O_DIRECTORY", "WNOHANG",
):
    delattr(os, name)
for name in (
    "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGTSTP",
    "SIGUSR1", "SIGUSR2", "alarm", "pthread_sigmask", "setitimer",
):
    delattr(signal, name)
for name in ("fcntl", "grp", "pwd", "readline", "resource", "termios", "tty"):
    sys.modules[name] = None
"""

IMPORT_ALL = """
import agentkit
for module in pkgutil.walk_packages(agentkit.__path__, "agentkit."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""

USE_IT = """
from agentkit import LLMManager
with LLMManager(cache="disk") as llm:
    llm.register_model("echo", lambda prompt, options: prompt.upper(), {"version": "1"})
    assert llm.complete("hi").text == "HI"
    assert llm.complete("hi").cached
assert os.path.exists(os.path.join(os.environ["AGENTKIT_CACHE_DIR"], "responses-v1", "cache.db"))
"""


def run(code: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(WITHOUT_UNIX + code)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    run(IMPORT_ALL, tmp_path)


def test_a_manager_answers_and_keeps_answers_on_disk(tmp_path: Path) -> None:
    run(USE_IT, tmp_path)
