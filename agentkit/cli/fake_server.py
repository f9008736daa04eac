"""``agentkit fake-server``: a provider on this machine, for trying and testing without a key."""

from __future__ import annotations

import functools
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from agentkit.cli.output import AsJson, count, fail, note, print_json

if TYPE_CHECKING:
    from agentkit.testing import WireServer
    from agentkit.testing.faults import Fault

_FAULTS = ("disconnect", "reset", "silence")
_PATIENCE = 3600.0
"""Seconds of one wait for a request, which is repeated."""


def command(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 is any free one.")
    ] = 8765,
    reply: Annotated[str, typer.Option(metavar="TEXT", help="The answer to every request.")] = (
        "The quick brown fox jumps over the lazy dog."
    ),
    faults: Annotated[
        list[str] | None,
        typer.Option(
            "--fail",
            metavar="STATUS",
            help="A failure for the next request: an HTTP status, disconnect, reset or silence. "
            "Several for as many requests.",
            show_default=False,
        ),
    ] = None,
    delay: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Pause before each word of a stream.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Serve the protocols of OpenAI, Anthropic, Google, Groq and Bedrock on 127.0.0.1.

    Every request gets the same answer; no key is checked. Ctrl-C stops it.
    """
    from agentkit.testing import WireServer

    server = WireServer(reply, chunk_delay=delay)
    try:
        server.script(*(_fault(each) for each in faults or ()))
        server.start(port)
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(f"port {port} cannot be used: {error.strerror}; choose another --port, or 0")
    try:
        _print_addresses(server, as_json)
        _report_requests(server)
    except KeyboardInterrupt:
        note(f"stopped after {count(len(server.requests), 'request', 'requests')}")
    finally:
        server.close()


def _fault(text: str) -> Fault:
    """The fault that ``--fail`` names."""
    from agentkit.testing import faults

    if text in _FAULTS:
        fault: Fault = getattr(faults, text)()
        return fault
    if not text.isdecimal():
        message = f"--fail {text}: use an HTTP status, {', '.join(_FAULTS)}"
        raise ValueError(message)
    return faults.status(int(text))


def _print_addresses(server: WireServer, as_json: bool) -> None:
    if as_json:
        print_json({"url": server.url, "openai_url": server.openai_url})
    else:
        print(f"OpenAI and compatible  {server.openai_url}")
        print(f"other providers        {server.url}")
        print(f'Try it: agentkit ask "hello" -m compatible:any --base-url {server.openai_url}')
    sys.stdout.flush()


def _report_requests(server: WireServer) -> None:
    """Print a line for each request, until Ctrl-C."""
    seen = 0
    while True:
        with suppress(TimeoutError):
            server.wait_until(functools.partial(_has_more, seen), timeout=_PATIENCE)
        for request in server.requests[seen:]:
            seen += 1
            kind = "stream" if request.stream else "complete"
            note(f"request {seen}: {request.provider}, model {request.model}, {kind}")


def _has_more(seen: int, server: WireServer) -> bool:
    return len(server.requests) > seen
