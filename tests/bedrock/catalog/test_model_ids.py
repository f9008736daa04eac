"""A name is one model or an error with suggestions; ids and ARNs are used as they are."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.bedrock import BedrockModelCatalog, ModelAccessMethod
from agentkit.bedrock.catalog.model_ids import base_id, is_explicit, name_key
from agentkit.errors import UnknownModelError

DIRECT, REGIONAL, GLOBAL = (
    ModelAccessMethod.DIRECT,
    ModelAccessMethod.REGIONAL_CRIS,
    ModelAccessMethod.GLOBAL_CRIS,
)
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"


@pytest.fixture
def catalog() -> BedrockModelCatalog:
    return BedrockModelCatalog(cache_mode="none", use_api=False)


@pytest.mark.promise("S1-30")
@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("Claude 3 Haiku", HAIKU),
        ("Claude 3 Sonnet", "anthropic.claude-3-sonnet-20240229-v1:0"),
        ("Claude 3.5 Sonnet", "anthropic.claude-3-5-sonnet-20240620-v1:0"),
        ("Claude Sonnet 4 5 20250929", SONNET),
        ("Claude 3 Opus", "anthropic.claude-3-opus-20240229-v1:0"),
        ("Claude Opus 4 8", "anthropic.claude-opus-4-8"),
        ("Claude 3.5 Sonnet v2", "anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ("claude-3-5-sonnet-v2", "anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ("CLAUDE HAIKU 4.5", "anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("Claude Haiku 3", HAIKU),
        ("Anthropic Claude 3 Haiku", HAIKU),
        ("Nova Lite", "amazon.nova-lite-v1:0"),
        ("Command R+", "cohere.command-r-plus-v1:0"),
        ("Command R", "cohere.command-r-v1:0"),
        ("Stable Image Core 1.0", "stability.stable-image-core-v1:1"),
        (HAIKU, HAIKU),
        (f"us.{HAIKU}", HAIKU),
        (f"arn:aws:bedrock:us-east-1::foundation-model/{HAIKU}", HAIKU),
    ],
)
def test_every_printed_name_and_every_id_is_its_model(
    catalog: BedrockModelCatalog, name: str, id_: str
) -> None:
    info = catalog.get_model_info(name)
    assert info is not None
    assert info.model_id == id_


@pytest.mark.promise("B22")
@pytest.mark.parametrize("name", ["Claude Opus 9", "Claude 4 Haiku", "Claud 3 Haiku", "Haiku", ""])
def test_an_unknown_name_never_finds_another_model(catalog: BedrockModelCatalog, name: str) -> None:
    assert catalog.get_model_info(name) is None
    assert not catalog.is_model_available(name, "us-east-1")
    with pytest.raises(UnknownModelError, match="no Bedrock model"):
        catalog.routes(name, "us-east-1")


def test_an_unknown_name_gets_suggestions(catalog: BedrockModelCatalog) -> None:
    with pytest.raises(UnknownModelError, match="close: Claude 3 Haiku"):
        catalog.resolve("Claud 3 Haiku")


@pytest.mark.promise("S1-29")
def test_regional_profiles_come_first_then_the_model_itself(catalog: BedrockModelCatalog) -> None:
    assert catalog.routes("Claude 3 Haiku", "us-east-1") == (
        (REGIONAL, f"us.{HAIKU}"),
        (DIRECT, HAIKU),
    )
    assert catalog.routes("Claude 3 Haiku", "eu-central-2") == ((DIRECT, HAIKU),)
    assert catalog.routes("Claude 3 Haiku", "il-central-1") == ()


@pytest.mark.promise("B20")
def test_a_global_profile_is_used_only_when_asked_for(catalog: BedrockModelCatalog) -> None:
    assert catalog.routes("Claude Sonnet 4.5", "sa-east-1") == ()
    ways = catalog.routes("Claude Sonnet 4.5", "us-east-1")
    assert ways == ((REGIONAL, f"us.{SONNET}"),)
    asked = catalog.routes("Claude Sonnet 4.5", "us-east-1", (GLOBAL, REGIONAL))
    assert asked == ((GLOBAL, f"global.{SONNET}"), (REGIONAL, f"us.{SONNET}"))
    for model in catalog.list_models():
        for region in model.regions:
            routes = catalog.routes(model.model_id, region)
            assert not any(route.model_id.startswith("global.") for route in routes)


def test_the_narrowest_profile_of_a_region_is_taken(catalog: BedrockModelCatalog) -> None:
    access = catalog.get_model_info("Claude Opus 4.6", "ap-northeast-1")
    assert access is not None
    assert access.regional_cris_profile_id == "jp.anthropic.claude-opus-4-6-v1"
    assert access.inference_profile_id == access.regional_cris_profile_id


@pytest.mark.promise("B22")
def test_ids_are_accepted_whether_they_are_known_or_not(catalog: BedrockModelCatalog) -> None:
    unknown = "newmaker.model-9-v1:0"
    assert catalog.resolve(unknown) is None
    assert catalog.routes(unknown, "us-east-1") == ((DIRECT, unknown),)
    assert catalog.routes(f"eu.{unknown}", "eu-west-1") == ((REGIONAL, f"eu.{unknown}"),)
    assert catalog.routes(f"global.{SONNET}", "sa-east-1") == ((GLOBAL, f"global.{SONNET}"),)


def test_a_plain_id_that_needs_a_profile_here_gets_it(catalog: BedrockModelCatalog) -> None:
    assert catalog.routes(SONNET, "us-east-1") == ((REGIONAL, f"us.{SONNET}"),)
    assert catalog.routes(HAIKU, "us-east-1") == ((DIRECT, HAIKU), (REGIONAL, f"us.{HAIKU}"))
    assert catalog.routes(HAIKU, "il-central-1") == ((DIRECT, HAIKU),)


def test_an_arn_is_used_in_its_own_region_only(catalog: BedrockModelCatalog) -> None:
    assert catalog.routes(ARN, "us-east-1") == ((DIRECT, ARN),)
    assert catalog.routes(ARN, "us-west-2") == ()
    system = f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{HAIKU}"
    assert catalog.routes(system, "us-east-1") == ((REGIONAL, system),)


@pytest.mark.parametrize(
    ("text", "explicit"),
    [
        (HAIKU, True),
        (f"us-gov.{HAIKU}", True),
        (ARN, True),
        ("deepseek.r1-v1:0", True),
        ("Claude 3.5 Sonnet", False),
        ("claude-3.5-sonnet", False),
        ("arn:aws:s3:::x", False),
        ("", False),
        ("anthropic.", False),
    ],
)
def test_ids_are_distinguished_from_names(text: str, explicit: bool) -> None:
    assert is_explicit(text) is explicit


def test_the_base_of_an_id_drops_geography_and_arn_only() -> None:
    assert base_id("apac.amazon.nova-lite-v1:0") == "amazon.nova-lite-v1:0"
    assert base_id("ai21.jamba-1-5-mini-v1:0") == "ai21.jamba-1-5-mini-v1:0"


@given(st.text(alphabet=string.ascii_letters + string.digits + " .-+"))
def test_letter_case_and_punctuation_never_matter(text: str) -> None:
    assert name_key(text.swapcase()) == name_key(text)
    assert name_key(text.replace(" ", " - ")) == name_key(text)


@given(st.text())
def test_any_text_has_a_key(text: str) -> None:
    assert all(name_key(text))
