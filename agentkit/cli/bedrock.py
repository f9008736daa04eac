"""``agentkit bedrock``: the catalogue of models, refreshed from AWS and listed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agentkit.cli.help import Command, Group
from agentkit.cli.output import AsJson, console, fail_with, print_json
from agentkit.errors import LLMError

app = typer.Typer(cls=Group, help="Amazon Bedrock.")
catalog = typer.Typer(cls=Group, help="The catalogue of models and the Regions that offer them.")
app.add_typer(catalog, name="catalog")


@catalog.command("refresh", cls=Command)
def refresh_command(
    profile: Annotated[str | None, typer.Option(help="AWS profile; default: the SDK's.")] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the merged data to this file, in the format of the bundle."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Query AWS for the models of every Region, and save the result.

    Models that AWS no longer lists are marked as retired, not deleted. Exit code 1: no Region
    answered; the old data stays.
    """
    from agentkit.bedrock import AuthConfig, AuthenticationType, BedrockModelCatalog

    auth = None
    if profile is not None:
        auth = AuthConfig(auth_type=AuthenticationType.PROFILE, profile_name=profile)
    try:
        models = BedrockModelCatalog(auth)
        refreshed = models.refresh_catalog()
        if export is not None:
            models.export(export)
    except LLMError as error:
        fail_with(error, as_json=as_json)
    summary: dict[str, Any] = {
        "models": len(models.list_models()),
        "regions": list(refreshed.api_regions_queried),
        "retrieved": refreshed.retrieval_timestamp.isoformat(),
        "exported": None if export is None else str(export),
    }
    if as_json:
        print_json(summary)
        return
    print(f"{summary['models']} models from {len(summary['regions'])} Regions")
    if export is not None:
        print(f"written to {export}")


@catalog.command("list", cls=Command)
def list_command(
    region: Annotated[
        str | None, typer.Option(help="Only models available in this Region.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Only models of this vendor.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the known models, without calling AWS."""
    from rich.table import Table

    from agentkit.bedrock import BedrockModelCatalog
    from agentkit.providers.bedrock.regions import check_region

    try:
        if region is not None:
            check_region(region)
        source = BedrockModelCatalog(use_api=False)
        models = source.list_models(region=region, provider=provider)
        metadata = source.get_catalog_metadata()
    except LLMError as error:
        fail_with(error, as_json=as_json)
    if as_json:
        print_json(
            {
                "source": metadata.source.value,
                "date": metadata.retrieval_timestamp.isoformat(),
                "models": [model.to_dict() for model in models],
            }
        )
        return
    table = Table("model", "provider", "id", "Regions", "", box=None, header_style="bold")
    for model in models:
        state = "retired" if model.retired else ""
        table.add_row(
            model.model_name, model.provider, model.model_id, str(len(model.regions)), state
        )
    shown = console()
    shown.print(table)
    shown.print(f"{metadata.source.value} data of {metadata.retrieval_timestamp:%Y-%m-%d}")
