"""``agentkit ask``: from arguments or stdin, streamed or as JSON, with fallbacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def test_retries_and_fallbacks_are_shown_on_stderr() -> None:
    with WireServer(reply="Paris.") as server:
        server.script(faults.status(503), model="first")
        done = ask(server, "capital?")
        assert (done.exit_code, done.stdout) == (0, "Paris.\n")
        assert done.stderr.startswith("agentkit: compatible:first: ServerError; retry 1 in ")
        server.script(faults.status(404), model="first")
        done = ask(server, "capital?", "-m", "compatible:second")
        assert "the next model is compatible:second" in done.stderr


def test_verbose_shows_the_ledger_of_an_answer_and_of_a_failure() -> None:
    with WireServer(reply="Paris.") as server:
        done = ask(server, "capital?", "-v")
        assert done.stdout == "Paris.\n"
        assert "answered by compatible:first" in done.stderr
        server.always(faults.status(401))
        assert "no answer in" in ask(server, "capital?", "-v").stderr


@pytest.mark.parametrize("model", ["first", "second"])
def test_a_failure_with_json_is_json(model: str) -> None:
    with WireServer() as server:
        server.always(faults.status(401))
        done = ask(server, "capital?", "--json", "-m", f"compatible:{model}")
        assert done.exit_code == 1
        error = json.loads(done.stdout)["error"]
        assert error["type"] in {"AuthenticationError", "AllModelsFailedError"}
        assert (error["retryable"], error["attempts"][0]["status"]) == (False, 401)


def test_a_wrong_model_with_json_is_json() -> None:
    done = CliRunner().invoke(app, ["ask", "hello", "--json", "-m", "opnai:x"])
    assert done.exit_code == 1
    assert "did you mean 'openai:" in json.loads(done.stdout)["error"]["hint"]


def test_options_reach_the_model_as_json_values() -> None:
    with WireServer() as server:
        ask(server, "hello", "-o", "temperature=0.2", "-o", 'stop=["x"]', "-o", "user=me")
        body = server.requests[0].body
        assert (body["temperature"], body["stop"], body["user"]) == (0.2, ["x"], "me")
        done = ask(server, "hello", "-o", "temperature")
        assert (done.exit_code, len(server.requests)) == (1, 1)
        assert "write -o temperature=0.2" in done.stderr


def test_a_schema_is_sent_and_its_answer_is_json(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    file = tmp_path / "city.json"
    file.write_text(json.dumps(schema), "utf-8")
    with WireServer(reply='{"name": "Paris"}') as server:
        done = ask(server, "capital?", "--schema", str(file))
        assert json.loads(done.stdout) == {"name": "Paris"}
        assert "city" in json.dumps(server.requests[0].body)
        file.write_text("[]", "utf-8")
        done = ask(server, "capital?", "--schema", str(file))
        assert "is not the JSON Schema of an object" in done.stderr
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("schema", "flaw"),
    [
        ({"properties": 5}, "`properties` of it is not an object"),
        ({"properties": {"name": "string"}}, "`name` is neither an object nor true or false"),
        ({"properties": {"name": {"type": "text"}}}, "`name` has the unknown type 'text'"),
        ({"required": "name"}, "`required` of it is not a list"),
        ({"required": [1]}, "`required` of it has what is not a name"),
        ({"anyOf": {}}, "`anyOf` of it is not a list"),
        (
            {"properties": {"all": {"type": "array", "items": [1]}}},
            "`items` of `all` is neither an object nor true or false",
        ),
    ],
)
def test_a_schema_with_a_flaw_is_refused_before_the_call(
    tmp_path: Path, schema: dict[str, Any], flaw: str
) -> None:
    file = tmp_path / "city.json"
    file.write_text(json.dumps({"type": "object", **schema}), "utf-8")
    with WireServer() as server:
        done = ask(server, "capital?", "--schema", str(file))
        assert server.requests == ()
    assert done.exit_code == 1
    assert f"is not a JSON Schema: {flaw}" in done.stderr


def test_hints_name_options_of_the_command_line() -> None:
    with WireServer() as server:
        server.always(faults.status(401))
        done = ask(server, "hello", "-m", "compatible:second")
        assert "`agentkit ask -v` shows every attempt" in done.stderr
        assert ".ledger" not in done.stderr
    done = CliRunner().invoke(app, ["ask", "hello", "-m", "openai:some-model"])
    assert "OPENAI_API_KEY" in done.stderr
    assert "api_key=" not in done.stderr
