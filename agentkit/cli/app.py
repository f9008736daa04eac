"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentkit._version import __version__
from agentkit.cli import ask, batch, bedrock, chat, config, demo, models

app = typer.Typer(
    help="Model calls that survive outages. Without a command: the demo.",
    epilog="Exit codes: 0 done, 1 failed or unhealthy, 2 wrong usage, 130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,  # a local variable may hold a key
    rich_markup_mode="rich",
)
app.add_typer(bedrock.app, name="bedrock")
app.add_typer(config.app, name="config")
app.command("ask")(ask.command)
app.command("chat")(chat.command)
app.command("batch")(batch.command)
app.command("demo")(demo.command)
app.command("models")(models.command)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"agentkit {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Show the version and leave."
        ),
    ] = False,
) -> None:
    """Model calls that survive outages. Without a command: the demo."""
    if context.invoked_subcommand is None:
        demo.command()


@app.command()
def stats(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            help="A response cache's directory; default: the one a manager would use.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a response cache's directory holds.

    Nothing in it is changed.
    """
    from agentkit.cli import stats as inventory

    inventory.run(directory, as_json=as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check versions, extras and the environment.

    Of a key, only its name is ever shown. Exit code 1: something needed is broken.
    """
    from agentkit.cli import doctor as checkup

    if not checkup.run(as_json=as_json):
        raise typer.Exit(1)
