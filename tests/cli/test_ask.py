"""``agentkit ask``: from arguments or stdin, streamed or as JSON, with fallbacks."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from agentkit import LLMManager
from agentkit.cli.app import app
from agentkit.testing import WireServer, faults

pytestmark = pytest.mark.wire


def ask(server: WireServer, *arguments: str, stdin: str | bytes | None = None) -> Result:
    usual = ["ask", "-m", "compatible:first", "--base-url", server.openai_url]
    return CliRunner().invoke(app, [*usual, *arguments], input=stdin)


@pytest.mark.parametrize("option", ["--stream", "--no-stream"])
def test_the_answer_is_on_stdout_streamed_or_not(option: str) -> None:
    with WireServer(reply="Paris, of course.") as server:
        done = ask(server, "What is the capital of France?", option, "--system", "be brief")
        assert (done.exit_code, done.stdout, done.stderr) == (0, "Paris, of course.\n", "")
        [request] = server.requests
        assert request.stream is (option == "--stream")
        assert [each["role"] for each in request.body["messages"]] == ["system", "user"]


def test_a_dash_reads_stdin() -> None:
    with WireServer(reply=lambda body: body["messages"][0]["content"].upper()) as server:
        assert ask(server, "-", stdin="grüße\nzwei").stdout == "GRÜSSE\nZWEI\n"


@pytest.mark.parametrize("stdin", [b"\xff\xfe", b" \n"])
def test_an_invalid_stdin_is_a_one_line_error(stdin: bytes) -> None:
    with WireServer() as server:
        done = ask(server, "-", stdin=stdin)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("agentkit: ")
        assert done.stderr.count("\n") == 1
        assert server.requests == ()


def test_json_names_the_model_and_the_usage() -> None:
    with WireServer(reply="Paris.") as server:
        server.always(faults.status(404), model="first")
        done = ask(server, "capital?", "--json", "-m", "compatible:second")
        shown = json.loads(done.stdout)
        assert (shown["text"], shown["model"]) == ("Paris.", "compatible:second")
        assert (shown["provider"], shown["attempts"]) == ("compatible", 2)
        assert shown["usage"]["output_tokens"] == 1


def test_no_answer_comes_from_a_response_cache() -> None:
    with WireServer(reply="4") as server:
        for _ in range(2):
            ask(server, "2 + 2?")
        assert len(server.requests) == 2


def test_a_failed_request_is_exit_code_1_and_one_line() -> None:
    with WireServer() as server:
        server.always(faults.status(401))
        done = ask(server, "hello", "--no-stream")
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1


def test_a_broken_stream_shows_the_partial_answer_and_fails() -> None:
    with WireServer(reply="one two three") as server:
        server.script(faults.cut_stream(2))
        done = ask(server, "count")
        assert (done.exit_code, done.stdout) == (1, "one two\n")
        assert done.stderr.startswith("agentkit: ")


def test_the_deadline_holds_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    real = LLMManager.complete

    def complete(self: LLMManager, *prompt: object, **options: object) -> object:
        given.append(options["deadline"])
        return real(self, *prompt, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(LLMManager, "complete", complete)
    with WireServer() as server:
        assert ask(server, "hello", "--deadline", "7.5", "--no-stream").exit_code == 0
        assert ask(server, "hello", "--deadline", "0").exit_code == 1
    assert given == [7.5]


def test_without_a_model_or_a_configuration_the_error_has_a_hint() -> None:
    done = CliRunner().invoke(app, ["ask", "hello"])
    assert done.exit_code == 1
    assert "--model" in done.stderr
    done = CliRunner().invoke(app, ["ask", "hello", "--base-url", "http://127.0.0.1:1"])
    assert "--base-url needs a --model" in done.stderr


def test_a_key_in_the_environment_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    with WireServer(reply="Paris.") as server:
        monkeypatch.setenv("OPENAI_API_KEY", "key-of-a-test")
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        done = CliRunner().invoke(app, ["ask", "capital?", "--no-stream"])
        assert (done.exit_code, done.stdout) == (0, "Paris.\n")
        assert len(server.requests) == 1
