"""The command line as a process: pipes, terminals, interrupts, a missing extra."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

# Says on leaving which threads are left, and takes Ctrl-C whatever the parent does with it.
PROGRAM = """
import atexit, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(
    lambda: print("threads:", *(t.name for t in threading.enumerate()), file=sys.stderr)
)
from agentkit.__main__ import main
main()
"""
ONLY_MAIN = "threads: MainThread"
COLOR = re.compile(r"\x1b\[[\d;]*3[1-7]m")


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-c", PROGRAM, *arguments]


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        program(*arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env=os.environ | env,
    )


def on_a_terminal(*arguments: str, interrupt_after: bytes | None = None) -> tuple[str, str, int]:
    """What the program shows on a terminal of its own; stderr; its exit code."""
    master, slave = pty.openpty()
    env = os.environ | {"TERM": "xterm-256color"}
    process = subprocess.Popen(
        program(*arguments), stdin=slave, stdout=slave, stderr=subprocess.PIPE, env=env
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
        if interrupt_after is not None and interrupt_after in shown:
            process.send_signal(signal.SIGINT)
            interrupt_after = None
    _, errors = process.communicate(timeout=50)
    os.close(master)
    return shown.decode(), errors.decode(), process.returncode


def test_a_pipe_gets_plain_lines() -> None:
    done = run("demo", "--fast")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "= Paris." in done.stdout
    assert done.stderr.strip() == ONLY_MAIN


def test_a_terminal_gets_color_and_a_moving_scoreboard() -> None:
    shown, errors, code = on_a_terminal("demo", "--fast")
    assert code == 0
    assert COLOR.search(shown)
    assert "\x1b[?25l" in shown, "the cursor hides while the scoreboard moves"
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "and comes back"
    assert errors.strip() == ONLY_MAIN


def test_no_color_is_respected_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown, _, code = on_a_terminal("demo", "--fast")
    assert code == 0
    assert "closed → open" in shown
    assert not COLOR.search(shown)


def test_a_terminal_that_cannot_move_the_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("demo", "--fast", PYTHONIOENCODING="ascii", FORCE_COLOR="1", TERM="dumb")
    assert done.returncode == 0
    assert "\x1b[?25l" not in done.stdout
    assert "closed ? open" in done.stdout


def test_an_interrupt_ends_the_demo_on_a_terminal_cleanly() -> None:
    shown, errors, code = on_a_terminal("demo", interrupt_after=b"? ")
    assert code == 130
    assert errors.strip() == ONLY_MAIN
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is back"


def test_an_interrupt_ends_the_demo_in_a_pipe_cleanly() -> None:
    process = subprocess.Popen(
        program("demo"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "?" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=50)
    assert process.returncode == 130
    assert errors.strip() == ONLY_MAIN


@pytest.mark.parametrize("arguments", [("demo", "--fast"), ("doctor",), ("doctor", "--json")])
def test_a_closed_pipe_ends_the_command_silently(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        program(*arguments),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=50,
    )
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr.strip() == ONLY_MAIN


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_line_says_how_to_install_it(missing: str) -> None:
    blocked = f"import sys; sys.modules[{missing!r}] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + PROGRAM, "doctor"],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    hint, threads = done.stderr.splitlines()
    assert hint.endswith('pip install "agentkit-llms[cli]"')
    assert missing in hint
    assert threads == ONLY_MAIN


def test_an_import_error_of_our_own_is_not_taken_for_a_missing_extra() -> None:
    blocked = "import sys; sys.modules['agentkit.cli.app'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + PROGRAM], capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError" in done.stderr
    assert "agentkit-llms[cli]" not in done.stderr


def test_the_module_and_the_console_script_are_one() -> None:
    by_module = [sys.executable, "-m", "agentkit", "--version"]
    by_script = [str(Path(sys.executable).with_name("agentkit")), "--version"]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for command in (by_module, by_script)
    )
    assert first == second
    assert re.fullmatch(r"agentkit \d+\.\d+\.\d+\S*\n", first)


@pytest.mark.parametrize(
    "statement", ["import agentkit, agentkit.errors", "import agentkit.__main__"]
)
def test_importing_agentkit_does_not_load_the_command_line(statement: str) -> None:
    probe = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert not {"agentkit.cli", "typer", "rich"} & set(done.stdout.split())
