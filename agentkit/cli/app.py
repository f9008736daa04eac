"""The command ``agentkit`` and the commands below it."""

from __future__ import annotations

from typing import Annotated

import typer

from agentkit._version import __version__
from agentkit.cli import (
    ask,
    batch,
    bedrock,
    chat,
    config,
    demo,
    doctor,
    fake_server,
    models,
    runs,
    stats,
)
from agentkit.cli.help import Command, Group

app = typer.Typer(
    cls=Group,
    help="Model calls that survive outages. Without a command: the demo.",
    epilog="Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,  # a local variable may contain a key
    rich_markup_mode="rich",
)
app.command("demo", cls=Command)(demo.command)
app.command("ask", cls=Command)(ask.command)
app.command("chat", cls=Command)(chat.command)
app.command("batch", cls=Command)(batch.command)
app.command("models", cls=Command)(models.command)
app.add_typer(config.app, name="config")
app.command("stats", cls=Command)(stats.command)
app.add_typer(runs.app, name="runs")
app.command("doctor", cls=Command)(doctor.command)
app.command("fake-server", cls=Command)(fake_server.command)
app.add_typer(bedrock.app, name="bedrock")


def _print_version(requested: bool) -> None:
    if requested:
        print(f"agentkit {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Model calls that survive outages. Without a command: the demo."""
    if context.invoked_subcommand is None:
        demo.command()
