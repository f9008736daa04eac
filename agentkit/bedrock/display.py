"""Streamed answers on a terminal: the text, then a summary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from agentkit.errors import MissingDependencyError

if TYPE_CHECKING:
    from rich.console import Console

    from agentkit.bedrock.stream import AsyncStreamingResponse, StreamingResponse

    Streamed: TypeAlias = StreamingResponse | AsyncStreamingResponse


def display_streaming_response(
    response: StreamingResponse, console: Console | None = None, *, summary: bool = True
) -> str:
    """Print the answer while it arrives, then its summary; returns the text.

    Args:
        response: a stream that has not been read.
        console: where to print (default: stdout).
        summary: whether to print the two tables.

    Raises:
        MissingDependencyError: rich is not installed.
        LLMError: the stream failed; the text so far stays printed.
    """
    out = console or _console()
    try:
        for chunk in response:
            out.print(chunk, end="", markup=False, highlight=False, emoji=False, soft_wrap=True)
    finally:
        out.print()
    if summary:
        display_streaming_summary(response, out)
        display_recovery_information(response, out)
    return response.get_full_content()


def display_streaming_summary(response: Streamed, console: Console | None = None) -> None:
    """Print model, Region, tokens and times in milliseconds of a stream that has been read."""
    metrics = response.get_metrics()
    rows = {
        "model": response.model_used,
        "region": response.region_used,
        "access method": response.access_method_used,
        "stop reason": response.stop_reason,
        "input tokens": response.get_input_tokens(),
        "output tokens": response.get_output_tokens(),
        "first token (ms)": metrics["time_to_first_token_ms"],
        "total (ms)": metrics["total_duration_ms"],
        "service's own latency (ms)": metrics["api_latency_ms"],
    }
    _table("Stream", rows, console)


def display_recovery_information(response: Streamed, console: Console | None = None) -> None:
    """Print the errors of a stream and where its answer came from; nothing without errors."""
    if not response.get_stream_errors():
        return
    rows = {name.replace("_", " "): value for name, value in response.get_recovery_info().items()}
    errors = enumerate(response.get_stream_errors(), start=1)
    rows |= {f"error {number}": f"{type(each).__name__}: {each}" for number, each in errors}
    _table("Recovery", rows, console)


def _table(title: str, rows: dict[str, Any], console: Console | None) -> None:
    out = console or _console()
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=SIMPLE_HEAD, show_header=False)
    for cells in _cells(rows):
        table.add_row(*map(Text, cells))
    out.print(table)


def _cells(rows: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in rows.items():
        if value is not None:
            yield name, f"{value:,.0f}" if isinstance(value, float) else str(value)


def _console() -> Console:
    try:
        from rich.console import Console
    except ImportError:
        raise MissingDependencyError(
            "the display functions need the package rich", hint='pip install "agentkit-llms[cli]"'
        ) from None
    return Console()
