"""Every snippet of the two Bedrock documents runs as printed; only import lines are changed."""

from __future__ import annotations

import inspect
import logging
import re
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest

from agentkit import bedrock
from agentkit.bedrock import (
    AuthenticationError,
    BedrockResponse,
    ConfigurationError,
    LLMManager,
    LLMManagerError,
    RequestValidationError,
    RetryExhaustedError,
    create_user_message,
)
from tests.bedrock.messages import samples
from tests.bedrock.runtime import FakeClients, answer, echo, manager, refused, text_events

HERE = Path(__file__).parent


def blocks(name: str) -> list[str]:
    found = re.findall(r"```python\n(.*?)```", (HERE / name).read_text("utf-8"), re.DOTALL)
    return [_repaired(block) for block in found]


def _repaired(block: str) -> str:
    """The two mechanical repairs: a pip line goes, and a comment before a continuation."""
    block = re.sub(r"^pip install .*\n", "", block, flags=re.MULTILINE)
    return re.sub(r"[ \t]+#[^\n]*\\$", r" \\", block, flags=re.MULTILINE)


REFERENCE = blocks("bedrock_reference.md")
README = blocks("bedrock_readme.md")

# What is printed and is not code, by its first words, and why.
SIGNATURE, TREE, LISTING, NATIVE = "signature", "tree", "class listing", "native API"
REFERENCE_NOT_CODE = {
    "def __init__(\n    self,\n    models": SIGNATURE,
    "def converse(": SIGNATURE,
    "def converse_stream(": SIGNATURE,
    "def converse_with_request(": SIGNATURE,
    "def get_available_models(": SIGNATURE,
    "def get_available_regions(": SIGNATURE,
    "def get_model_access_info(": SIGNATURE,
    "def validate_configuration(": SIGNATURE,
    "def refresh_model_data(": SIGNATURE,
    "LLMManagerError (base)": TREE,
    "class BedrockResponse:": LISTING,
}
README_NOT_CODE = {
    "import boto3\nimport base64": NATIVE,
    "# Native API streaming is limited": NATIVE,
    "# With native API, manual cache point": NATIVE,
    "# With native API, you must process requests": NATIVE,
    "# With native API, manual validation": NATIVE,
}

ANSWER = "Machine learning is the study of programs that improve with what they have seen."
FILES = {
    "document.pdf": samples.PDF,
    "charts/sales_chart.png": samples.PNG,
    "data/sales_chart.png": samples.PNG,
    "data/sales_data.xlsx": samples.XLSX,
    "reports/quarterly_report.pdf": samples.PDF,
    "photo.jpg": samples.JPEG_JFIF,
    "diagram.png": samples.PNG,
    "report.pdf": samples.PDF,
    "data.csv": b"a,b\n1,2\n",
    "building1.jpg": samples.JPEG_EXIF,
    "building2.jpg": samples.JPEG_ICC,
    "documents/one.pdf": samples.PDF,
    "documents/two.pdf": samples.PDF,
    "very_large_file.pdf": samples.PDF + b"0" * 6_000_000,
}


def reply(region: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a model says; cached tokens where the prompt has a cache point."""
    points = "cachePoint" in str(arguments["messages"])
    usage = {"inputTokens": 10, "outputTokens": 16, "totalTokens": 1026 if points else 26}
    if points:
        usage |= {"cacheReadInputTokens": 1000, "cacheWriteInputTokens": 0}
    return answer(ANSWER, usage=usage)


class Both(FakeClients):
    """Answers both operations; a stream brings the answer word by word."""

    def next(self, region: str, operation: str, arguments: dict[str, Any]) -> Any:
        step = super().next(region, operation, arguments)
        if operation == "ConverseStream" and isinstance(step, dict):
            return text_events(*re.findall(r"\S+\s*", ANSWER))
        return step


@pytest.fixture(params=["sdk", "native"])
def clients(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> FakeClients:
    """No AWS, the documents' files in the working directory, caches in their own."""
    monkeypatch.setenv("AGENTKIT_TRANSPORT", request.param)
    fake = Both(then=reply)
    monkeypatch.setattr("agentkit.bedrock.manager.Clients", lambda *_, **__: fake)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return fake


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """One snippet configures the root logger."""
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def code(found: list[str], not_code: dict[str, str]) -> list[str]:
    return [block for block in found if not block.startswith(tuple(not_code))]


def execute(found: list[str], namespace: dict[str, Any], document: str) -> dict[str, Any]:
    """Run `found` in order in one namespace."""
    for number, block in enumerate(found, 1):
        exec(compile(block, f"{document}, block {number}", "exec"), namespace)
    return namespace


class Flask:
    """As much of a web framework as the printed service touches."""

    def __init__(self, name: str) -> None:
        self.routes: dict[str, Any] = {}

    def route(self, path: str, methods: list[str]) -> Any:
        return lambda view: self.routes.setdefault(path, view)


def flask() -> types.ModuleType:
    module: Any = types.ModuleType("flask")
    module.Flask = Flask
    module.request = types.SimpleNamespace(json={"message": "Hello?"})
    module.jsonify = dict
    return module  # type: ignore[no-any-return]


class Timer:
    """The printed clean-up starts itself again for ever; here it only notes that it would."""

    begun: ClassVar[list[Timer]] = []

    def __init__(self, seconds: float, fn: Any) -> None:
        self.seconds = seconds

    def start(self) -> None:
        self.begun.append(self)


def run_reference(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`logger` is used before its definition, `Mock` and the typing names are never imported."""
    monkeypatch.setitem(sys.modules, "flask", flask())
    monkeypatch.setattr(threading, "Timer", Timer)
    monkeypatch.setattr(Timer, "begun", [])
    namespace = {"__name__": "reference", "logger": logging.getLogger("reference"), "Mock": Mock}
    return execute(code(REFERENCE, REFERENCE_NOT_CODE), namespace, "reference")


def run_readme() -> dict[str, Any]:
    """`image_data` and `doc_data` are used and never defined."""
    namespace = {
        "__name__": "readme",
        "image_data": samples.WEBP,
        "doc_data": samples.DOCX,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="UnifiedModelManager is deprecated")
        warnings.filterwarnings("ignore", message="max_size_mb=10 is above")
        return execute(code(README, README_NOT_CODE), namespace, "readme")


@pytest.mark.parametrize(
    ("found", "not_code"), [(REFERENCE, REFERENCE_NOT_CODE), (README, README_NOT_CODE)]
)
def test_what_is_not_code_is_listed_and_nothing_else_is_left_out(
    found: list[str], not_code: dict[str, str]
) -> None:
    left_out = [block for block in found if block.startswith(tuple(not_code))]
    assert len(left_out) == len(not_code)
    for block in left_out:
        reason = next(why for start, why in not_code.items() if block.startswith(start))
        if reason == NATIVE:
            assert "agentkit" not in block
            assert "bedrock." in block or "native API" in block
        elif reason != LISTING:
            with pytest.raises(SyntaxError):
                compile(block, "not code", "exec")


def test_the_whole_reference_runs_in_order(
    monkeypatch: pytest.MonkeyPatch, clients: FakeClients, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace = run_reference(monkeypatch)
    printed = capsys.readouterr().out
    assert f"Answer: {ANSWER}" in printed
    assert "Model used: Claude 3.5 Sonnet" in printed
    assert "Region used: us-east-1" in printed
    assert "failed" not in printed
    assert namespace["full_content"] == ANSWER
    assert "".join(namespace["content_parts"]) == ANSWER
    assert namespace["stream_errors"] == []
    assert namespace["attempt_count"] == 1
    assert [each["answer"] for each in namespace["batch_results"]] == [ANSWER] * 3
    assert namespace["response2"] == ANSWER
    assert [timer.seconds for timer in Timer.begun] == [300]


@pytest.mark.promise("S0-59", "S0-62", "S0-64")
def test_what_the_reference_defines_works_too(
    monkeypatch: pytest.MonkeyPatch, clients: FakeClients
) -> None:
    """Functions and classes that the document defines and never calls."""
    namespace = run_reference(monkeypatch)
    answered = namespace["app"].routes["/chat"]()
    assert (answered["success"], answered["response"]) == (True, ANSWER)
    assert answered["usage"]["total_tokens"] == 26
    assert namespace["ChatService"]().chat(namespace["message"]).get_content() == ANSWER
    assert namespace["chat"](namespace["message"]).success
    assert namespace["process_user_input"]("hi").success
    namespace["test_process_user_input"]()
    assert namespace["robust_conversation"](namespace["manager"], namespace["message"]) == ANSWER
    kept = namespace["cached_manager"]
    before = len(clients.asked)
    first = kept.converse([namespace["message"]])
    assert kept.converse([namespace["message"]]) is first
    changes: list[dict[str, Any]] = [
        {"system": [{"text": "s"}]},
        {"inference_config": {"maxTokens": 7}},
        {"messages": [namespace["message"], namespace["message"]]},
    ]
    for change in changes:
        given = {"messages": [namespace["message"]], **change}
        assert kept.converse(given.pop("messages"), **given) is not first
    assert len(clients.asked) == before + 1 + len(changes)
    monkeypatch.setenv("LLM_MODELS", "Claude 3 Haiku,Claude 3.5 Sonnet")
    monkeypatch.setenv("LLM_REGIONS", "us-west-2")
    made = namespace["create_manager"]()
    assert made.get_available_models() == ["Claude 3 Haiku", "Claude 3.5 Sonnet"]
    assert made.get_available_regions() == ["us-west-2"]
    monkeypatch.setenv("LLM_TIMEOUT", "0")
    with pytest.raises(ConfigurationError, match="timeout"):
        namespace["create_manager"]()


FAULTS: list[Any] = [
    (RequestValidationError, {"messages": []}, None, "Request validation failed"),
    (AuthenticationError, {}, refused("AccessDeniedException", status=403), "Authentication"),
    (RetryExhaustedError, {}, refused("ThrottlingException", status=429), "All retry attempts"),
    (LLMManagerError, {}, refused("ValidationException"), "General LLM error"),
]


@pytest.mark.promise("S0-65")
@pytest.mark.parametrize(("kind", "request_", "fault", "printed"), FAULTS)
def test_each_printed_except_branch_is_reached(
    kind: type[Exception],
    request_: dict[str, Any],
    fault: Exception | None,
    printed: str,
    clients: FakeClients,
    capsys: pytest.CaptureFixture[str],
) -> None:
    block = next(each for each in REFERENCE if "except RetryExhaustedError as e:" in each)
    clients.then = fault or reply
    retry = bedrock.RetryConfig(max_attempts=1)
    with LLMManager(["Claude 3 Haiku"], ["us-east-1"], retry_config=retry) as manager:
        message = request_ or create_user_message().add_text("hi").build()
        execute([block], {"manager": manager, "message": message}, "reference")
    assert printed in capsys.readouterr().out


@pytest.mark.promise("B33", "S1-01", "S1-03", "S1-31", "S1-81")
def test_the_whole_readme_runs_in_order(
    clients: FakeClients, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace = run_readme()
    printed = capsys.readouterr().out
    assert printed.startswith(ANSWER)
    assert "Used model: Claude 3 Haiku in region: us-east-1" in printed
    assert f"Stream completed. Total characters: {len(ANSWER)}" in printed
    assert "Streaming error" not in printed
    assert "Success rate: 100.0%" in printed
    assert f"question-2: {ANSWER}" in printed
    assert "=== Analysis of one ===" in printed
    assert "Analysis complete" in printed
    assert "Supports Streaming: True" in printed
    assert "Source: BUNDLED" in printed
    assert "Using bundled data (version:" in printed
    assert "Validation issues" not in printed
    assert {"cache_hit_ratio", "cache_read_tokens"} <= set(
        namespace["response1"].get_cache_efficiency()
    )


def test_what_the_readme_defines_works_too(clients: FakeClients) -> None:
    namespace = run_readme()
    assert namespace["is_available"]
    assert namespace["model_info"].model_id == "anthropic.claude-3-haiku-20240307-v1:0"
    assert namespace["lambda_handler"]({}, None) == {"statusCode": 200, "body": "Available: True"}
    handler = next(each for each in README if "Model available:" in each)
    assert execute([handler], {}, "readme")["lambda_handler"]({}, None) == {
        "statusCode": 200,
        "body": "Model available: True",
    }


@pytest.mark.promise("S1-77")
def test_the_readme_shows_rejected_answers(
    clients: FakeClients, capsys: pytest.CaptureFixture[str]
) -> None:
    clients.steps.append(lambda region, arguments: answer("short"))
    block = next(each for each in README if "custom_content_validator" in each)
    block = block.replace("response_validation_delay=0.5", "response_validation_delay=0.0")
    with LLMManager(["Claude 3 Haiku"], ["us-east-1"]) as manager:
        space = {"manager": manager, "create_user_message": create_user_message}
        execute([block], space, "readme")
    assert "Validation issues detected:\n  - Response too short" in capsys.readouterr().out


@pytest.mark.promise("S1-36")
def test_the_readme_falls_back_from_a_stream_that_is_refused(
    clients: FakeClients, capsys: pytest.CaptureFixture[str]
) -> None:
    clients.steps.append(refused("ValidationException", "no streams"))
    block = next(each for each in README if "Fallback response" in each)
    with LLMManager(["Claude 3 Haiku"], ["us-east-1"]) as manager:
        space = {"manager": manager, "create_user_message": create_user_message}
        execute([block], space, "readme")
    assert f"Fallback response: {ANSWER}" in capsys.readouterr().out


def printed_parameters(block: str) -> list[str]:
    return re.findall(r"(?:^\s+|\(self, |, )(\w+):", block, re.MULTILINE)


@pytest.mark.promise("S0-03")
@pytest.mark.parametrize(
    "start", [start for start, why in REFERENCE_NOT_CODE.items() if why == SIGNATURE]
)
def test_printed_signatures_are_the_packages(start: str) -> None:
    """Parameters are there under the printed names, in the printed order where by position."""
    block = next(each for each in REFERENCE if each.startswith(start))
    name = re.match(r"def (\w+)", block)
    assert name is not None
    real = inspect.signature(getattr(LLMManager, name[1])).parameters
    printed = printed_parameters(block.split(") ->", maxsplit=1)[0])
    if any(each.kind is each.VAR_KEYWORD for each in real.values()):
        printed = [each for each in printed if each in real]
    assert printed == [each for each in real if each in printed]


@pytest.mark.promise("S0-40")
def test_the_printed_class_listing_and_tree_are_the_packages() -> None:
    listing = next(each for each in REFERENCE if each.startswith("class BedrockResponse"))
    printed = re.findall(r"^    (\w+):", listing, re.MULTILINE)
    assert len(printed) == 10
    assert set(printed) <= {each.name for each in fields(BedrockResponse)}
    for error in (
        ConfigurationError, RequestValidationError, AuthenticationError, RetryExhaustedError,
    ):  # fmt: skip
        assert issubclass(error, LLMManagerError)


@pytest.mark.promise("S0-58")
def test_the_printed_memory_keeps_the_last_turns_in_order() -> None:
    document = (HERE / "bedrock_reference.md").read_text("utf-8")
    recipe = next(each for each in document.split("```") if "class ConversationMemory" in each)
    space: dict[str, Any] = {
        "manager": manager(FakeClients(then=echo)),
        "create_user_message": create_user_message,
    }
    exec(recipe.removeprefix("python"), space)
    memory = space["ConversationMemory"](space["manager"], max_history=5)
    for turn in range(6):
        assert memory.get_response(f"{turn}") == f"to {turn}"
    assert len(memory.messages) == 5
    roles = [each["role"] for each in memory.messages]
    assert all(one != other for one, other in pairwise(roles))
