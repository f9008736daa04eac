"""``agentkit chat``: streams, keeps the conversation, survives errors and Ctrl-C."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentkit.cli.app import app
from agentkit.testing import WireServer, faults
from tests.cli.terminal import Terminal
from tests.providers.canned import canned

pytestmark = pytest.mark.wire

MODEL = ("-m", "compatible:m")


def chat(server: WireServer, lines: str, *more: str) -> Result:
    arguments = ["chat", *MODEL, "--base-url", server.openai_url, *more]
    return CliRunner().invoke(app, arguments, input=lines)


def conversations(server: WireServer) -> list[list[tuple[str, str]]]:
    return [
        [(each["role"], each["content"]) for each in request.body["messages"]]
        for request in server.requests
    ]


def test_each_turn_carries_the_conversation_so_far() -> None:
    with WireServer() as server:
        server.script("Hello.", "Ann.")
        done = chat(server, "I am Ann\n\n  who am I?\n", "--system", "be brief")
        first = [("system", "be brief"), ("user", "I am Ann")]
        assert (done.exit_code, done.stdout, done.stderr) == (0, "Hello.\nAnn.\n", "")
        assert conversations(server) == [
            first,
            [*first, ("assistant", "Hello."), ("user", "who am I?")],
        ]
        assert all(request.stream for request in server.requests)


def test_a_model_gets_its_reasoning_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "made-up-key")
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "signed"}
    message = {"id": "m1", "type": "message", "role": "assistant", "model": "claude-x"}
    usage = {"input_tokens": 1, "output_tokens": 1}
    with canned() as server:
        server.events(
            {"type": "message_start", "message": {**message, "content": [], "usage": usage}},
            {"type": "content_block_start", "index": 0, "content_block": thinking},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "text"}},
            {
                "type": "content_block_delta",
                "index": 1,
                "delta": {"type": "text_delta", "text": "Hello."},
            },
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
            {"type": "message_stop"},
        )
        arguments = ["chat", "-m", "anthropic:claude-x", "--base-url", server.url]
        done = CliRunner().invoke(app, arguments, input="hi\nand?\n")
        assert (done.exit_code, done.stdout) == (0, "Hello.\nHello.\n")
        _, again = server.requests
    assert again["messages"][1]["content"] == [thinking, {"type": "text", "text": "Hello."}]


def test_reset_clears_everything_but_the_system_prompt() -> None:
    with WireServer(reply="ok") as server:
        chat(server, "one\n/reset\ntwo\n", "--system", "be brief")
        assert conversations(server)[1] == [("system", "be brief"), ("user", "two")]


def test_quit_leaves_before_the_next_line() -> None:
    with WireServer() as server:
        assert chat(server, "/quit\nhello\n").exit_code == 0
        assert server.requests == ()


def test_the_conversation_is_saved_and_no_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    with WireServer(reply="gut – ja") as server:
        done = chat(server, f"wie geht's?\n/save {path}\n/save {path}\n/save\n")
    assert json.loads(path.read_text(encoding="utf-8")) == [
        {"role": "user", "content": "wie geht's?"},
        {"role": "assistant", "content": "gut – ja"},
    ]
    assert "2 messages saved" in done.stderr
    assert "not saved" in done.stderr
    assert "/save FILE" in done.stderr, "without a name, the help"


def test_an_error_is_one_line_and_its_message_is_removed() -> None:
    with WireServer(reply="fine") as server:
        server.script(faults.status(400, message="no such thing"))
        done = chat(server, "bad\ngood\n")
        assert done.exit_code == 0
        assert done.stdout == "fine\n"
        [line] = done.stderr.splitlines()
        assert line.startswith("agentkit: ")
        assert conversations(server)[1] == [("user", "good")]


def test_a_partial_answer_stays_in_the_conversation() -> None:
    with WireServer(reply="one two three") as server:
        server.script(faults.cut_stream(2))
        done = chat(server, "count\ngo on\n")
        assert done.stdout == "one two\none two three\n"
        assert "agentkit: " in done.stderr
        assert conversations(server)[1][1] == ("assistant", "one two")


@pytest.mark.parametrize("model", ["unknown:m", "openai:", "m"])
def test_an_unknown_model_is_reported_first(model: str) -> None:
    done = CliRunner().invoke(app, ["chat", "-m", model])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("agentkit: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.processes
def test_ctrl_c_stops_the_answer_and_not_the_chat_and_ctrl_d_leaves() -> None:
    with WireServer(reply="fine") as server:
        server.script(faults.stalled_stream(2, reply="one two three four"))
        with Terminal("chat", *MODEL, "--base-url", server.openai_url) as terminal:
            terminal.see("/quit (or Ctrl-D) leaves")
            terminal.see("> ")
            terminal.type("count\n")
            terminal.see("one two")
            terminal.interrupt("agentkit: stopped")
            terminal.see("> ")
            terminal.type("and now?\n")
            terminal.see("fine")
            terminal.see("> ")
            terminal.interrupt("> ")
            terminal.type("\x04")
            assert terminal.leave() == 0
        assert conversations(server)[1] == [
            ("user", "count"),
            ("assistant", "one two"),
            ("user", "and now?"),
        ]


@pytest.mark.processes
def test_an_answer_cannot_control_the_terminal() -> None:
    with WireServer(reply="\x1b[31mred\x1b]0;title\x07\x9b2J end") as server:
        with Terminal("chat", *MODEL, "--base-url", server.openai_url) as terminal:
            terminal.see("> ")
            terminal.type("hi\n")
            shown = terminal.see("end")
        assert "\x1b" not in shown
        assert "\x9b" not in shown
