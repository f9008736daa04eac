"""A stream on a terminal: the text as it comes, what it took, and what broke on the way."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from rich.console import Console

from agentkit.bedrock import (
    display_recovery_information,
    display_streaming_response,
    display_streaming_summary,
)
from agentkit.errors import MissingDependencyError, StreamInterruptedError
from tests.bedrock.runtime import HAIKU, FakeClients, manager, message, text_events, throttled


def shown(*steps: Any, **how: Any) -> tuple[str, str]:
    """What is returned, and what is printed."""
    out = io.StringIO()
    console = Console(file=out, width=100)
    stream = manager(FakeClients(*steps)).converse_stream([message()])
    return display_streaming_response(stream, console, **how), out.getvalue()


@pytest.mark.promise("S1-35")
def test_the_text_is_printed_as_it_is_and_the_summary_follows() -> None:
    text, printed = shown("[bold]Hello| :smile: world")
    assert text == "[bold]Hello :smile: world"
    assert printed.startswith(text)
    for expected in (HAIKU, "us-east-1", "end_turn", "output tokens"):
        assert expected in printed
    assert "Recovery" not in printed


def test_long_lines_are_not_broken() -> None:
    words = "word " * 100
    assert shown(words, summary=False) == (words, words + "\n")


def test_what_broke_on_the_way_is_row() -> None:
    _, printed = shown(throttled(), "fine")
    assert "Recovery" in printed
    assert "RateLimitError" in printed
    assert "us-west-2" in printed


def test_a_stream_that_breaks_keeps_its_text_on_the_screen() -> None:
    out = io.StringIO()
    clients = FakeClients(then=lambda region, arguments: text_events("Hello", stop=None))
    llm = manager(clients, models=["Claude Sonnet 5"], regions=["us-east-1"])
    stream = llm.converse_stream([message()])
    with pytest.raises(StreamInterruptedError):
        display_streaming_response(stream, Console(file=out))
    assert out.getvalue() == "Hello\n"
    display_recovery_information(stream, Console(file=out, width=100))
    assert "error 1" in out.getvalue()


def test_without_a_console_it_is_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    stream = manager(FakeClients("Hello")).converse_stream([message()])
    display_streaming_response(stream, summary=False)
    display_streaming_summary(stream)
    assert capsys.readouterr().out.startswith("Hello\n")


def test_without_rich_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    stream = manager(FakeClients("Hello")).converse_stream([message()])
    with pytest.raises(MissingDependencyError, match="agentkit-llms"):
        display_streaming_response(stream)
