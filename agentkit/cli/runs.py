"""``agentkit runs``: list the runs of agents in a journal, show, resume and cancel them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from agentkit.cli.help import Command, Group
from agentkit.cli.output import (
    AsJson,
    console,
    fail,
    note,
    one_line,
    print_json,
    print_text,
    without_control_characters,
)
from agentkit.errors import ConfigurationError, LLMError

if TYPE_CHECKING:
    from agentkit.agent.agent import Agent
    from agentkit.agent.result import AgentResult
    from agentkit.agent.runs.store import RunInfo, RunStore

T = TypeVar("T")

app = typer.Typer(
    cls=Group, help="List the runs of agents in a journal, show, resume and cancel them."
)

Journal = Annotated[
    str,
    typer.Option(
        "--journal",
        "-j",
        metavar="URL",
        envvar="AGENTKIT_JOURNAL",
        help='Where runs are recorded, such as "sqlite:///runs.sqlite".',
    ),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of the run.")]


@app.command("list", cls=Command)
def list_command(
    journal: Journal,
    status: Annotated[
        str | None,
        typer.Option(metavar="STATUS", help="Only runs of this status, such as abandoned."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs of a journal, the oldest first.

    `abandoned` runs have lost their process; `failed` ones can be resumed, too.
    """
    found = [each for each in _ask(lambda: _store(journal).runs()) if status in (None, each.status)]
    if as_json:
        print_json({"runs": [_as_json(each) for each in found]})
        return
    table = Table(box=None, pad_edge=False)
    for title in ("run", "agent", "status", "updated", "note"):
        table.add_column(title, overflow="fold")
    for each in found:
        detail = ", ".join(each.pending) if each.status == "waiting" else each.note
        updated = f"{each.updated:%Y-%m-%d %H:%M:%S}"
        row = (each.id, each.agent, each.status, updated, detail)
        table.add_row(*(without_control_characters(text) for text in row))
    console().print(table)


@app.command("show", cls=Command)
def show_command(run: RunId, journal: Journal, as_json: AsJson = False) -> None:
    """Show the history of a run, its cost, and calls that wait or are in doubt.

    The history contains messages, arguments and results.
    """
    from agentkit.agent.runs.story import story_of

    store = _ask(lambda: _store(journal))
    info, steps = _ask(lambda: (store.run(run), store.steps(run)))
    if as_json:
        listed = [
            {"name": each.name, "seconds": each.seconds, "value": each.value} for each in steps
        ]
        print_json({**_as_json(info), "steps": listed})
    else:
        text = _ask(lambda: story_of(info, steps))
        print_text(console(), Text(without_control_characters(text)))


@app.command("cancel", cls=Command)
def cancel_command(run: RunId, journal: Journal) -> None:
    """End a run for good. A process that works on it stops at its next step."""
    _ask(lambda: _store(journal).cancel(run))
    note(f"run {run} is cancelled")


@app.command("resume", cls=Command)
def resume_command(
    agent: Annotated[
        str,
        typer.Option(
            metavar="MODULE:NAME",
            help="The agent, such as shop.agents:clerk; code is not recorded.",
        ),
    ],
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The id of the run.", show_default=False)
    ] = None,
    journal: Annotated[
        str | None,
        typer.Option(
            "--journal",
            "-j",
            metavar="URL",
            envvar="AGENTKIT_JOURNAL",
            help="Default: the agent's own journal.",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Resume each run of the agent whose process has ended.")
    ] = False,
    approve: Annotated[
        list[str] | None, typer.Option(metavar="CALL", help="Approve a pending call.")
    ] = None,
    deny: Annotated[
        list[str] | None, typer.Option(metavar="CALL[=REASON]", help="Refuse a pending call.")
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(metavar="CALL=JSON", help="Approve a call with other arguments."),
    ] = None,
) -> None:
    """Continue a run after its last recorded step, with decisions about its pending calls."""
    if every == (run is not None) or (every and (approve or deny or edit)):
        fail("name one run, or give --all without decisions")
    clerk = _ask(lambda: _agent(agent))
    if every:
        outcomes = _ask(lambda: clerk.resume_all(journal))
        for name, outcome in outcomes.items():
            _report(name, outcome)
        if any(isinstance(each, LLMError) for each in outcomes.values()):
            raise typer.Exit(1)
        return
    decisions: dict[str, Any] = {
        "approve": approve or [],
        "deny": dict(each.partition("=")[::2] for each in deny or []),
        "edit": _ask(lambda: dict(_edited(each) for each in edit or [])),
    }
    _report(str(run), _ask(lambda: clerk.resume(str(run), journal=journal, **decisions)))


def _report(run: str, outcome: AgentResult[Any] | LLMError) -> None:
    if isinstance(outcome, LLMError):
        note(f"run {run}: {type(outcome).__name__}: {one_line(outcome)}")
        return
    for each in outcome.pending:
        doubt = ", which is in doubt" if each.in_doubt else ""
        arguments = json.dumps(dict(each.call.arguments))
        note(f"run {run} waits for approval of {each.call.id}: {each.call.name} {arguments}{doubt}")
    if outcome.status == "finished":
        print(without_control_characters(f"{run}: {outcome.text}"))


def _edited(text: str) -> tuple[str, Any]:
    call, _, arguments = text.partition("=")
    try:
        value = json.loads(arguments)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ConfigurationError(f"--edit {call} needs a JSON object", hint='--edit call-1={"x":1}')
    return call, value


def _agent(name: str) -> Agent:
    from agentkit.agent.agent import Agent

    module, _, attribute = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"{name} cannot be imported: {error}", hint="give --agent package.module:name"
        ) from error
    if not isinstance(found, Agent):
        raise ConfigurationError(f"{name} is of type {type(found).__name__}, not an Agent")
    return found


def _store(url: str) -> RunStore:
    from agentkit.agent.runs.store import RunStore

    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not file.exists():
        raise ConfigurationError(f"there is no journal {file}", hint="check --journal")
    return RunStore(url)


def _ask(action: Callable[[], T]) -> T:
    try:
        return action()
    except LLMError as error:
        fail(one_line(error))


def _as_json(info: RunInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "agent": info.agent,
        "status": info.status,
        "claims": info.claims,
        "created": info.created.isoformat(),
        "updated": info.updated.isoformat(),
        "pending": list(info.pending),
        "note": info.note,
    }
