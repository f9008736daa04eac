"""Known defects of the system that the Bedrock documents describe: the same situation, put right.

The others stand beside what they are about, in ``tests/bedrock``, under their numbers.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentkit import bedrock
from agentkit.bedrock import (
    AuthenticationError,
    BedrockModelCatalog,
    CacheConfig,
    CatalogUnavailableError,
    Clients,
    ImageFormatEnum,
    LLMManager,
    MessageBuilder,
    ParallelProcessingConfig,
    RequestValidationError,
    RetryConfig,
    create_user_message,
)
from tests.bedrock.messages import samples
from tests.bedrock.runtime import FakeClients, manager, message, refused

EAST, WEST = "us-east-1", "us-west-2"
SOURCES = Path(bedrock.__file__).parent
ADAPTER = SOURCES.parent / "providers" / "bedrock"


def read_names() -> set[str]:
    """Every attribute and variable that the Bedrock door reads."""
    found: set[str] = set()
    for path in (*SOURCES.rglob("*.py"), *ADAPTER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found.add(node.id)
    return found


@pytest.mark.promise("B18")
@pytest.mark.parametrize(
    ("kind", "ignored"),
    [
        (CacheConfig, set()),
        (ParallelProcessingConfig, set()),
        (RetryConfig, set()),
        (MessageBuilder.add_text, set()),
        (BedrockModelCatalog, set()),
        (LLMManager, {"log_level"}),
    ],
)
def test_b18_every_setting_is_read(kind: Any, ignored: set[str]) -> None:
    """`log_level` says itself that it has no effect: levels belong to the application."""
    settings = set(inspect.signature(kind).parameters) - {"self", "args", "kwargs"}
    assert settings - read_names() == ignored


def test_b18_strict_neither_takes_the_bundle_nor_asks_unasked(tmp_path: Path) -> None:
    with pytest.raises(CatalogUnavailableError):
        manager(FakeClients(), strict_cache_mode=True, catalog_cache_directory=tmp_path)


@pytest.mark.promise("B13")
def test_b13_each_file_is_sent_as_what_it_is() -> None:
    built = (
        create_user_message()
        .add_text("?")
        .add_document_bytes(samples.XLSX, filename="book.xlsx")
        .add_image_bytes(samples.JPEG_ICC)
        .add_video_bytes(samples.MP4_ISOM)
        .build()
    )
    kinds = [next(iter(block.items())) for block in built["content"][1:]]
    assert [(kind, block["format"]) for kind, block in kinds] == [
        ("document", "xlsx"), ("image", ImageFormatEnum.JPEG.value), ("video", "mp4"),
    ]  # fmt: skip


@pytest.mark.promise("B14")
def test_b14_the_limits_are_the_services_bytes_and_can_be_raised() -> None:
    """3.8 MB is above the image limit of 3.75 MB for the first check as for the second."""
    with pytest.raises(RequestValidationError):
        create_user_message().add_image_bytes(samples.PNG + b"0" * 3_800_000)
    document = samples.PDF + b"0" * 6_000_000
    with pytest.raises(RequestValidationError):
        create_user_message().add_document_bytes(document)
    with pytest.warns(UserWarning, match="max_size_mb=10"):
        raised = create_user_message().add_document_bytes(document, max_size_mb=10)
    assert raised.content_block_count == 1


@pytest.mark.promise("B30")
def test_b30_a_manager_changes_no_logger_and_a_rejected_answer_stays_out_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loggers = [logging.getLogger(name) for name in (None, "agentkit", "agentkit.bedrock")]
    before = [each.level for each in loggers]
    config = bedrock.ResponseValidationConfig(lambda response: "long" in response.get_content())
    with caplog.at_level(logging.INFO):
        levels = [each.level for each in loggers]
        llm = manager(FakeClients("the confidential draft", "long"), log_level=logging.DEBUG)
        response = llm.converse([message()], response_validation_config=config)
        assert [each.level for each in loggers] == levels
    assert response.had_validation_failures()
    assert "confidential" not in caplog.text
    assert [each.level for each in loggers] == before


@pytest.mark.promise("B32")
def test_b32_a_rotation_is_even_under_threads() -> None:
    clients = FakeClients(then="x")
    llm = manager(clients, retry={"region_order": "rotate"})
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(lambda _: llm.converse([message()]), range(400)))
    assert Counter(clients.order) == {EAST: 200, WEST: 200}


@pytest.mark.promise("B32")
def test_b32_everything_has_an_async_twin() -> None:
    async def main() -> list[str | None]:
        llm = manager(FakeClients(then="x"))
        request = bedrock.BedrockConverseRequest([message()])
        many = await asyncio.gather(*[llm.aconverse([message()]) for _ in range(20)])
        one = await llm.aconverse_with_request(request)
        stream = llm.aconverse_stream([message()])
        text = "".join([chunk async for chunk in stream])
        await llm.aclose()
        return [*(each.get_content() for each in many), one.get_content(), text]

    assert asyncio.run(main()) == ["x"] * 22


@pytest.mark.promise("B28")
def test_b28_a_manager_asks_for_its_catalogue_as_whom_it_asks_models(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def fetch(clients: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(clients)
        raise bedrock.APIFetchError("not now")

    monkeypatch.setattr("agentkit.bedrock.catalog.catalog.fetch", fetch)
    auth = bedrock.AuthConfig("credentials", access_key="k", secret_key="s")
    with Clients(auth) as clients:
        llm = LLMManager(
            ["Claude 3 Haiku"], [EAST], clients=clients, catalog_cache_directory=tmp_path
        )
        with llm, pytest.raises(bedrock.APIFetchError):
            llm.refresh_model_data()
    assert asked == [clients]


@pytest.mark.promise("B33", "S1-66")
def test_b33_the_names_that_the_documents_print_are_there() -> None:
    denied = refused("AccessDeniedException", status=403)
    llm = manager(FakeClients(denied, "x"))
    response = llm.converse([message()])
    assert [each.model_used for each in response.attempts] == ["Claude 3 Haiku"] * 2
    assert [each.region_used for each in response.attempts] == [EAST, WEST]
    catalog = BedrockModelCatalog(use_api=False)
    info = catalog.get_model_info("Claude 3 Haiku", EAST)
    assert info is not None
    assert info.supports_streaming
    assert catalog.get_catalog_metadata().source.value == "BUNDLED"
    quiet = manager(FakeClients(then=denied), raise_on_failure=False).converse([message()])
    assert not quiet.success
    assert isinstance(quiet.get_last_error(), AuthenticationError)
