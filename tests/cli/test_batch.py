"""``agentkit batch``: every item exactly once, even after kill -9."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from agentkit import BreakerPolicy, ConfigurationError, LLMManager, RetryPolicy
from agentkit.cli.app import app
from agentkit.cli.batch import WaitNotes
from agentkit.manager.batch_file import Progress, complete_file
from agentkit.manager.batch_run import Outage
from agentkit.manager.targets import ProviderSpec
from agentkit.testing import ScriptedModel, WireServer, faults, overloaded, rate_limited
from agentkit.types import Response, Usage
from tests.cli.terminal import Terminal


def write(path: Path, items: Sequence[Any]) -> Path:
    lines = (item if isinstance(item, str) else json.dumps(item) for item in items)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"id": f"q{n}", "prompt": f"question {n}"} for n in range(count)]


def arguments(server: WireServer, source: Path, target: Path, *more: str) -> list[str]:
    usual = ["-m", "compatible:m", "--base-url", server.openai_url]
    return ["batch", str(source), str(target), *usual, *more]


def batch(server: WireServer, source: Path, target: Path, *more: str) -> Result:
    return CliRunner().invoke(app, arguments(server, source, target, *more))


def prompts(server: WireServer) -> list[str]:
    return [request.body["messages"][-1]["content"] for request in server.requests]


def run(model: ScriptedModel, source: Path, target: Path, **options: Any) -> Progress:
    with LLMManager(enable_caching=False, breaker=False, max_retries=1) as manager:
        manager.register_model("m", model.as_async())
        return asyncio.run(complete_file(manager, source, target, **options))


def echo() -> ScriptedModel:
    return ScriptedModel(then=lambda prompt, options: f"re: {prompt}")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "in.jsonl"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.mark.wire
def test_every_item_is_answered_under_its_id(source: Path, target: Path) -> None:
    write(source, [*numbered(5), {"messages": [{"role": "user", "content": "no id"}]}])
    with WireServer(reply=lambda body: f"re: {body['messages'][0]['content']}") as server:
        done = batch(server, source, target)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "6 items: 6 answered, 0 answered before, 0 failed\n"
    results = sorted(read(target), key=lambda each: each["index"])
    assert [each["id"] for each in results] == ["q0", "q1", "q2", "q3", "q4", None]
    assert [each["text"] for each in results][-2:] == ["re: question 4", "re: no id"]
    assert results[0]["usage"]["output_tokens"] == 3
    assert results[0]["model"] == "compatible:m"


@pytest.mark.wire
def test_parameters_of_the_model_are_passed_on(source: Path, target: Path) -> None:
    write(source, [{"prompt": "hi", "temperature": 0, "max_tokens": 7}])
    with WireServer() as server:
        assert batch(server, source, target).exit_code == 0
        [request] = server.requests
    assert (request.body["temperature"], request.body["max_tokens"]) == (0, 7)


@pytest.mark.processes
@pytest.mark.wire
def test_a_killed_run_resumes_without_losing_or_repeating_an_answer(
    source: Path, target: Path
) -> None:
    write(source, numbered(24))
    program = [sys.executable, "-m", "agentkit"]
    with WireServer(reply="fine") as server:
        server.script(*["fine"] * 10)
        server.always(faults.silence())
        command = [*program, *arguments(server, source, target, "--concurrency", "4")]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            server.wait_until(lambda server: len(server.requests) == 14, timeout=40.0)
            until = time.monotonic() + 20
            while target.read_bytes().count(b"\n") < 10:
                assert time.monotonic() < until
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        written = {each["id"] for each in read(target)}
        assert len(written) == 10
        with target.open("ab") as file:  # what a kill within a write leaves
            file.write(b'{"index": 10, "id": "q10", "dig')
        under_way = set(prompts(server)) - {f"question {i[1:]}" for i in written}
        server.always("fine")
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "24 items: 14 answered, 10 answered before, 0 failed\n"
        assert Counter(each["id"] for each in read(target)) == Counter(f"q{n}" for n in range(24))
        asked = Counter(prompts(server))
        assert {prompt for prompt, count in asked.items() if count > 1} == under_way
        assert len(under_way) == 4


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.data())
def test_an_output_truncated_anywhere_is_completed(tmp_path: Path, data: st.DataObject) -> None:
    source, target = write(tmp_path / "in", numbered(4)), tmp_path / "out"
    target.unlink(missing_ok=True)
    run(echo(), source, target, max_concurrency=1)
    complete = target.read_bytes()
    cut = data.draw(st.integers(0, len(complete)))
    target.write_bytes(complete[:cut])
    model = echo()
    kept = complete[:cut].count(b"\n") + (complete[cut : cut + 1] == b"\n")
    progress = run(model, source, target, max_concurrency=1)
    assert progress == Progress(total=4, kept=kept, answered=4 - kept)
    assert len(model.calls) == 4 - kept
    assert sorted(target.read_bytes().splitlines()) == sorted(complete.splitlines())


@pytest.mark.wire
def test_failed_items_are_retried_and_their_errors_replaced(source: Path, target: Path) -> None:
    write(source, numbered(3))
    with WireServer(reply="fine") as server:
        server.script("fine", faults.status(400, message="no"), "fine")
        done = batch(server, source, target, "--concurrency", "1")
        assert done.exit_code == 1
        assert "1 item failed" in done.stderr
        [failed] = [each for each in read(target) if "error" in each]
        assert (failed["id"], failed["error"]["type"]) == ("q1", "InvalidRequestError")
        assert batch(server, source, target).exit_code == 0
        assert prompts(server).count("question 1") == 2
        assert len(server.requests) == 4
    assert sorted(each["id"] for each in read(target)) == ["q0", "q1", "q2"]
    assert not any("error" in each for each in read(target))


BAD: list[Any] = [
    "no json",
    "[1]",
    "null",
    '"text"',
    "{}",
    "\ufeff{",
    {"prompt": 3},
    {"prompt": ""},
    {"prompt": "a", "messages": []},
    {"messages": []},
    {"messages": "hi"},
    {"messages": [{"role": "user", "content": 5}]},
    {"messages": [3]},
    {"messages": [{"role": "king", "content": "hi"}]},
    {"messages": [{"role": "user", "content": "hi", "name": "x"}]},
    {"id": 1.5, "prompt": "a"},
    {"id": [1], "prompt": "a"},
    {"id": True, "prompt": "a"},
    {"prompt": "a", "response_model": "City"},
    {"prompt": "a", "self": 1},
    {"prompt": "a", "deadline": "soon"},
    {"prompt": "a", "deadline": -1},
    {"prompt": "a", "tools": 3},
    {"prompt": "a", "model": "unheard of"},
    {"prompt": "a", "model": 3},
    "[" * 100_000,
]


def test_invalid_lines_become_errors_and_are_not_sent(source: Path, target: Path) -> None:
    write(source, [*BAD, {"id": "good", "prompt": "hi"}, "", {"id": "good", "prompt": "again"}])
    with source.open("ab") as file:
        file.write(b'{"prompt": "\xff"}\n')
    model = echo()
    progress = run(model, source, target)
    assert progress == Progress(total=len(BAD) + 3, answered=1, failed=len(BAD) + 2)
    assert [call.prompt for call in model.calls] == ["hi"]
    results = {each["index"]: each for each in read(target)}
    assert all(each["error"]["message"] for each in results.values() if each["id"] != "good")
    assert "duplicate id" in results[len(BAD) + 2]["error"]["message"]


def test_a_corrected_line_is_sent(source: Path, target: Path) -> None:
    write(source, ["{oops", {"prompt": "two"}])
    run(echo(), source, target)
    write(source, [{"prompt": "one"}, {"prompt": "two"}])
    model = echo()
    assert run(model, source, target) == Progress(total=2, kept=1, answered=1)
    assert [call.prompt for call in model.calls] == ["one"]


def test_a_byte_order_mark_and_a_lone_surrogate_are_accepted(source: Path, target: Path) -> None:
    source.write_bytes(b'\xef\xbb\xbf{"id": "\\ud800", "prompt": "\xe2\x80\xa8\xe2\x82\xac"}\n')
    assert run(echo(), source, target).answered == 1
    assert read(target)[0]["text"] == "re: \u2028€"
    assert run(echo(), source, target).kept == 1


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_an_input_in_utf_16_is_refused_as_a_whole(
    source: Path, target: Path, encoding: str
) -> None:
    """PowerShell writes it; its first line would be valid for json.loads, and the others not."""
    source.write_bytes('\ufeff{"prompt": "one"}\n{"prompt": "two"}\n'.encode(encoding))
    model = echo()
    with pytest.raises(ConfigurationError, match="UTF-16"):
        run(model, source, target)
    assert model.calls == ()


def test_an_output_that_cannot_be_read_again_is_refused(source: Path) -> None:
    write(source, numbered(1))
    model = echo()
    with pytest.raises(ConfigurationError, match="is not a file"):
        run(model, source, Path("/dev/full"))
    assert model.calls == ()


FOREIGN = [
    b'{"index": 0, "id": [1], "digest": ""}\n',
    b'{"index": {}, "id": null, "digest": ""}\n',
    b'{"index": 0, "id": null, "digest": "", "usage": null}\n',
    b'{"index": 0, "id": 1, "digest": "", "tokens": null, "cost": 1, "cost_estimated": false}\n',
    b'{"index": 0, "id": 1, "digest": "", "tokens": 1, "cost": [], "cost_estimated": false}\n',
    b"dear diary\n",
    b'{"a": 1}\n',
    b"x",
    b"[]\n",
    b"1",
    b'{"index": 0, "id"\n{"index": 1, "id": null, "digest": "", "text": ""}\n',
]


@pytest.mark.parametrize("content", FOREIGN)
def test_an_output_with_other_content_is_not_changed(
    source: Path, target: Path, content: bytes
) -> None:
    write(source, numbered(1))
    target.write_bytes(content)
    model = echo()
    with pytest.raises(ConfigurationError, match="not an output of a batch"):
        run(model, source, target)
    assert target.read_bytes() == content
    assert model.calls == ()


def test_an_output_of_other_requests_is_refused(source: Path, target: Path) -> None:
    write(source, numbered(2))
    run(echo(), source, target)
    before = target.read_bytes()
    write(source, [{"id": "q0", "prompt": "another"}, numbered(2)[1]])
    model = echo()
    with pytest.raises(ConfigurationError, match=r"line 1 of .* has changed"):
        run(model, source, target)
    assert (target.read_bytes(), model.calls) == (before, ())


def test_two_runs_do_not_write_one_output(source: Path, target: Path) -> None:
    write(source, numbered(1))
    with target.open("ab") as other:
        fcntl.flock(other.fileno(), fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="another run"):
            run(echo(), source, target)
    assert run(echo(), source, target).answered == 1


@pytest.mark.parametrize("same", [True, False], ids=["one file", "no input"])
def test_an_unreadable_input_is_reported_first(same: bool, source: Path, target: Path) -> None:
    if same:
        write(source, numbered(1))
    with pytest.raises(ConfigurationError):
        run(echo(), source, source if same else target)
    assert not target.exists()


def test_a_full_disk_ends_the_run_and_leaves_only_complete_lines(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source, numbered(6))
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ConfigurationError, match="No space left"):
        run(echo(), source, target, max_concurrency=2)
    monkeypatch.undo()
    assert 2 <= len(read(target)) < 6
    assert run(echo(), source, target).finished == 6
    assert len(read(target)) == 6


def test_each_item_is_on_the_disk_before_the_next_is_counted(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source, numbered(3))
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    seen: list[tuple[int, int]] = []
    run(echo(), source, target, on_progress=lambda now: seen.append((now.finished, len(synced))))
    assert seen == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_concurrency_is_limited(source: Path, target: Path) -> None:
    write(source, numbered(12))
    busy = most = 0

    async def model(prompt: str, options: dict[str, Any]) -> str:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1
        return prompt

    with LLMManager(enable_caching=False) as manager:
        manager.register_model("m", model)
        asyncio.run(complete_file(manager, source, target, max_concurrency=3))
    assert most == 3


def outage(
    model: Any, source: Path, target: Path, seconds: float = 0.05, **options: Any
) -> Progress:
    """A run over a model whose breaker opens at its first failure."""
    policy = BreakerPolicy(failure_threshold=1, recovery_timeout=seconds)
    with LLMManager(enable_caching=False, breaker=policy, max_retries=1) as manager:
        manager.register_model("m", model.as_async())
        return asyncio.run(complete_file(manager, source, target, max_concurrency=1, **options))


def test_an_outage_does_not_use_up_the_file(source: Path, target: Path) -> None:
    """What fails, and what finds the breaker open, is sent when the model can be asked again."""
    write(source, numbered(5))
    model = ScriptedModel("fine", overloaded(), then="fine")
    seen: list[Progress] = []
    progress = outage(model, source, target, on_progress=seen.append)
    assert progress == Progress(total=5, answered=5)
    assert max(each.held for each in seen) == 2
    assert not [each for each in read(target) if "error" in each]
    assert len(model.calls) == 6


@pytest.mark.wire
def test_a_rate_limit_is_waited_out(source: Path, target: Path) -> None:
    write(source, numbered(2))
    with WireServer(reply="fine") as server:
        server.script(rate_limited(retry_after=0.02))
        with LLMManager(enable_caching=False, retry=RetryPolicy(max_retry_after=0)) as manager:
            manager.register_model(
                "m", ProviderSpec("compatible:m", {"base_url": server.openai_url})
            )
            done = asyncio.run(complete_file(manager, source, target))
    assert done == Progress(total=2, answered=2)


def test_patience_ends(source: Path, target: Path) -> None:
    write(source, numbered(3))
    model = ScriptedModel(then=overloaded())
    assert outage(model, source, target, 60.0, patience=0.0) == Progress(total=3, failed=3)
    assert len(model.calls) == 1
    assert {each["error"]["type"] for each in read(target)} == {
        "OverloadedError",
        "CircuitOpenError",
    }


def test_a_permanent_error_is_not_waited_for(source: Path, target: Path) -> None:
    write(source, numbered(2))
    model = ScriptedModel(then=faults.Status(400))
    assert run(model, source, target) == Progress(total=2, failed=2)
    assert len(model.calls) == 2


@pytest.mark.wire
@pytest.mark.parametrize("cause", ["budget", "key"])
def test_what_time_does_not_change_stops_the_run_with_exit_code_3(
    source: Path, target: Path, cause: str
) -> None:
    write(source, [{"prompt": "hi", "max_tokens": 50}] * 5)
    with WireServer(reply="fine") as server:
        if cause == "key":
            server.always(faults.status(401))
        limit = ("--budget-tokens", "60") if cause == "budget" else ()
        done = batch(server, source, target, "--concurrency", "1", *limit)
    assert done.exit_code == 3
    assert done.stderr.startswith("agentkit: stopped: ")
    assert not any("error" in each for each in read(target))
    assert bool(read(target)) == (cause == "budget")


@pytest.mark.wire
def test_a_budget_in_dollars_takes_the_price_of_the_command_line(
    source: Path, target: Path
) -> None:
    write(source, [{"prompt": "hi", "max_tokens": 50}] * 5)
    with WireServer(reply=Response("fine", Usage(1000, 10))) as server:
        dear = ("--concurrency", "1", "--budget-usd", "0.001", "--price", "0.0001/0.01")
        done = batch(server, source, target, *dear)
        assert done.exit_code == 3
        assert 0 < len(read(target)) < 5
        assert read(target)[0]["cost"] == pytest.approx(0.0002)
        for wrong in ("1", "a/b", "1/2/3", "-1/2"):
            refused = batch(server, source, target, "--price", wrong)
            assert refused.exit_code == 1
        done = batch(server, source, target, "--budget-usd", "1")
        assert "--price" in done.stderr
    done = CliRunner().invoke(app, ["batch", str(source), str(target), "--price", "1/2"])
    assert "--price needs a --model" in done.stderr


def test_a_wait_and_its_end_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2100, 1, 2, 3, 4, 5, tzinfo=UTC)
    outage = Outage("m is down", retry_at=moment, give_up_at=moment)
    notes = WaitNotes()
    for held in (1, 2, 3):
        notes.update(Progress(total=3, held=held, outage=outage))
    notes.update(Progress(total=3, answered=1, held=2, outage=outage))
    notes.update(Progress(total=3, answered=2))
    assert capsys.readouterr().err == (
        "agentkit: waiting: m is down; next try at 2100-01-02 03:04:05, giving up at "
        "2100-01-02 03:04:05\nagentkit: the models answer again\n"
    )


def test_an_empty_input_is_an_empty_output(source: Path, target: Path) -> None:
    source.write_text("\n\n")
    assert run(echo(), source, target) == Progress()
    assert target.read_bytes() == b""


@pytest.mark.processes
@pytest.mark.wire
def test_a_terminal_gets_a_bar(source: Path, target: Path) -> None:
    write(source, numbered(3))
    with WireServer() as server, Terminal(*arguments(server, source, target)) as terminal:
        assert "3/3" in terminal.see("3 items: 3 answered")
        assert terminal.leave() == 0


@pytest.mark.processes
@pytest.mark.wire
def test_ctrl_c_ends_the_run_and_says_how_to_continue(source: Path, target: Path) -> None:
    write(source, numbered(3))
    with WireServer(reply="fine") as server:
        server.script("fine")
        server.always(faults.silence())
        command = arguments(server, source, target, "--concurrency", "1")
        with Terminal(*command) as terminal:
            server.wait_until(lambda server: len(server.requests) == 2, timeout=40.0)
            terminal.interrupt("run the same command again")
            assert terminal.leave() == 130
    assert [each["id"] for each in read(target)] == ["q0"]
