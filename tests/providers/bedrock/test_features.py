"""What a model refuses is left out on request only, and only if the refusal names it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from agentkit import errors as e
from agentkit.providers.bedrock.clients import Clients
from agentkit.providers.bedrock.degradation import FEATURES, without
from agentkit.providers.bedrock.errors import Refusal, refused_feature
from agentkit.testing import WireServer, faults
from tests.providers.bedrock.wired import (
    ANSWER,
    DIRECT,
    MODES,
    REGIONAL,
    ask,
    clients_at,
    details_of,
    given,
    manager,
)
from tests.providers.bedrock.wired import target as target_of

POINT = {"cachePoint": {"type": "default"}}
TOOL = {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}
IMAGE = {"image": {"format": "png", "source": {"bytes": b"png"}}}
DOCUMENT = {"document": {"format": "txt", "name": "a", "source": {"bytes": b"words"}}}
VIDEO = {"video": {"format": "mp4", "source": {"bytes": b"mp4"}}}
TEXT = {"text": "capital?"}
GUARD = {"guardrailIdentifier": "g1", "guardrailVersion": "1"}
FULL: dict[str, Any] = {
    "messages": [{"role": "user", "content": [TEXT, IMAGE, DOCUMENT, VIDEO, POINT]}],
    "system": [{"text": "Be brief."}, POINT],
    "toolConfig": {"tools": [TOOL, POINT]},
    "additionalModelRequestFields": {"top_k": 3, "thinking": {"type": "enabled"}},
    "guardrailConfig": GUARD,
}
USER = "This model doesn't support the {} field for user messages. Remove {} and try again."
FEATURE_REFUSALS = {
    "This model doesn't support tool use.": "tools",
    "This model doesn't support tool use in streaming mode.": "tools",
    "This model doesn't support the toolConfig field. Remove toolConfig and try again.": "tools",
    "This model doesn't support documents.": "documents",
    USER.format("document", "document"): "documents",
    USER.format("image", "image"): "images",
    USER.format("video", "video"): "video",
    "The model returned the following errors: This model does not support images.": "images",
    "This model doesn't support prompt caching.": "caching",
    USER.format("cachePoint", "cachePoint"): "caching",
    "This model doesn\N{RIGHT SINGLE QUOTATION MARK}t support tool use.": "tools",
}
"""What the service says, as recorded, and the feature it is about."""
OF_FIELDS = {
    "The model returned the following errors: Malformed input request: #: extraneous key [top_k] "
    "is not permitted, please reformat your input and try again.": ("top_k",),
    "Malformed input request: extraneous key [top_k] is not permitted": ("top_k",),
    'Malformed input request: #: subject must not be valid against schema {"required":["x"]}#: '
    "extraneous key [top_k] is not permitted": ("top_k",),
    "Malformed input request: #/thinking: extraneous key [depth] is not permitted": ("thinking",),
    "The model returned the following errors: thinking.budget: Extra inputs are not permitted": (
        "thinking",
    ),
    "#: extraneous key [top_k] is not permitted, #: extraneous key [thinking] is not permitted": (
        "top_k",
        "thinking",
    ),
}
NOT_A_FEATURE = [
    (
        "The model returned the following errors: Malformed input request: "
        "#/toolConfig/tools/1/toolSpec/inputSchema/json: extraneous key [top_k] is not permitted"
    ),
    "Malformed input request: #: extraneous key [unheard] is not permitted",
    "#: extraneous key [top_k] is not permitted, #: extraneous key [other] is not permitted",
    "messages.0.content.1.cache_control: Extra inputs are not permitted",
    "This model doesn't support the toolConfig.toolChoice.any field. Remove it and try again.",
    "This model doesn't support image sizes beyond 8000 pixels",
    "The value at toolConfig.tools.0 is not supported: function is invalid",
    "The guardrail is not supported: this model doesn't support images",
    "messages: tool use is not supported after documents",
    "This model doesn't support images. Remove image, or the guardrail, and try again.",
    "The image format is not supported.",
    "This model doesn't support temperature.",
    "",
]


def refusal(message: str, code: str = "ValidationException") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Converse")


class TestWhatARefusalIsAbout:
    @pytest.mark.parametrize("message", FEATURE_REFUSALS)
    def test_is_what_it_names(self, message: str) -> None:
        assert refused_feature(refusal(message), FULL) == Refusal(FEATURE_REFUSALS[message])

    @pytest.mark.parametrize("message", OF_FIELDS)
    def test_are_the_fields_it_names(self, message: str) -> None:
        expected = Refusal("additional_fields", OF_FIELDS[message])
        assert refused_feature(refusal(message), FULL) == expected

    @pytest.mark.promise("B2")
    @pytest.mark.parametrize("message", NOT_A_FEATURE)
    def test_b2_is_nothing_where_a_request_is_wrong(self, message: str) -> None:
        assert refused_feature(refusal(message), FULL) is None

    @pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException", ""])
    @pytest.mark.parametrize("message", [*FEATURE_REFUSALS, *OF_FIELDS])
    def test_b2_is_nothing_in_any_other_error(self, message: str, code: str) -> None:
        assert refused_feature(refusal(message, code), FULL) is None

    def test_is_nothing_in_other_errors(self) -> None:
        assert refused_feature(ValueError("This model doesn't support tool use."), FULL) is None


class TestLeavingOut:
    @pytest.mark.parametrize("kind", ["image", "document", "video"])
    def test_takes_the_blocks_of_a_kind_and_nothing_else(self, kind: str) -> None:
        feature = kind if kind == "video" else f"{kind}s"
        before = copy.deepcopy(FULL)
        reduced = without(FULL, feature)
        assert before == FULL
        assert reduced is not None
        blocks = [next(iter(block)) for block in reduced["messages"][0]["content"]]
        assert blocks == [
            each for each in ("text", "image", "document", "video", "cachePoint") if each != kind
        ]
        assert {**reduced, "messages": FULL["messages"]} == FULL

    def test_b17_takes_cache_points_from_everywhere(self) -> None:
        reduced = without(FULL, "caching")
        assert "cachePoint" not in str(reduced)
        assert reduced is not None
        assert reduced["toolConfig"] == {"tools": [TOOL]}
        assert reduced["system"] == [{"text": "Be brief."}]
        assert reduced["guardrailConfig"] == GUARD

    def test_takes_the_named_fields_only(self) -> None:
        name = "additionalModelRequestFields"
        reduced = without(FULL, "additional_fields", ["top_k"])
        assert reduced == {**FULL, name: {"thinking": {"type": "enabled"}}}
        both = without(FULL, "additional_fields", ["top_k", "thinking"])
        assert both == {key: value for key, value in FULL.items() if key != name}
        assert without(FULL, "additional_fields") == both
        assert without(FULL, "additional_fields", ["other"]) is None

    @pytest.mark.parametrize(
        "feature", ["tools", "caching", "documents", "images", "video", "additional_fields"]
    )
    def test_is_impossible_where_nothing_is(self, feature: str) -> None:
        assert without({"messages": [{"role": "user", "content": [TEXT]}]}, feature) is None

    def test_leaves_no_message_empty(self) -> None:
        assert without({"messages": [{"role": "user", "content": [IMAGE]}]}, "images") is None

    @pytest.mark.parametrize("kind", ["toolUse", "toolResult"])
    def test_leaves_the_tools_of_a_conversation_that_used_them(self, kind: str) -> None:
        used = {"role": "user", "content": [{kind: {"toolUseId": "t"}}]}
        assert without({**FULL, "messages": [used]}, "tools") is None

    def test_takes_no_field_of_a_guardrail(self) -> None:
        fields = {"amazon-bedrock-guardrailAction": "INTERVENED", "top_k": 3}
        arguments = {**FULL, "additionalModelRequestFields": fields}
        assert without(arguments, "additional_fields") is None
        reduced = without(arguments, "additional_fields", ["top_k"])
        assert reduced is not None
        assert list(reduced["additionalModelRequestFields"]) == ["amazon-bedrock-guardrailAction"]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[WireServer, Clients]]:
    with WireServer(reply=ANSWER) as server, clients_at(server.bedrock_url) as clients:
        yield server, clients


@pytest.fixture
def server(running: tuple[WireServer, Clients]) -> WireServer:
    running[0].clear()
    return running[0]


@pytest.fixture
def clients(running: tuple[WireServer, Clients]) -> Clients:
    return running[1]


every_way = pytest.mark.parametrize(
    ("mode", "stream"), [(mode, stream) for mode in MODES for stream in (False, True)]
)
NO_TOOLS = faults.status(400, message="This model doesn't support tool use.")
NO_IMAGES = faults.status(400, message=USER.format("image", "image"))


def omitted(outcome: Any) -> list[tuple[str, ...]]:
    """The features that each attempt left out."""
    return [(details or {})["omitted"] for details in details_of(outcome)]


class TestOverSockets:
    @every_way
    def test_a_refused_feature_is_left_out_inside_one_attempt_and_row(
        self, server: WireServer, clients: Clients, mode: str, stream: bool
    ) -> None:
        server.script(NO_TOOLS, NO_IMAGES)
        before = copy.deepcopy(FULL)
        with manager(target_of(clients)) as llm:
            reply = ask(llm, mode, stream=stream, **given(FEATURES, **FULL))
        assert before == FULL
        assert (reply.text, len(reply.ledger.sent)) == (ANSWER, 1)
        assert omitted(reply) == [("tools", "images")]
        last = server.requests[-1].body
        assert "toolConfig" not in last
        assert "image" not in str(last["messages"])
        assert all(each.body["guardrailConfig"] == GUARD for each in server.requests)

    @every_way
    def test_without_leave_it_is_an_error(
        self, server: WireServer, clients: Clients, mode: str, stream: bool
    ) -> None:
        server.always(NO_TOOLS)
        with manager(target_of(clients)) as llm, pytest.raises(e.InvalidRequestError) as raised:
            ask(llm, mode, stream=stream, **given(**FULL))
        assert len(server.requests) == 1
        assert omitted(raised.value) == [()]

    def test_what_is_to_be_kept_is_kept(self, server: WireServer, clients: Clients) -> None:
        server.always(NO_TOOLS)
        with manager(target_of(clients)) as llm, pytest.raises(e.InvalidRequestError):
            ask(llm, "sync", **given(FEATURES - {"tools"}, **FULL))
        assert len(server.requests) == 1

    @every_way
    @pytest.mark.parametrize(
        "message",
        [
            "The guardrail identifier is invalid: guardrails are not supported.",
            "This model doesn't support guardrails.",
            "This model doesn't support tool use. Remove the guardrail and try again.",
            "This model doesn't support the guardrailConfig field. Remove it and try again.",
            "Malformed input request: #: extraneous key [guardrailConfig] is not permitted",
        ],
    )
    def test_b1_a_guardrail_is_never_left_out(
        self, server: WireServer, clients: Clients, message: str, mode: str, stream: bool
    ) -> None:
        server.always(faults.status(400, message=message))
        llm = manager(target_of(clients), attempts=3)
        with llm, pytest.raises(e.InvalidRequestError) as raised:
            ask(llm, mode, stream=stream, **given(FEATURES, **FULL))
        (asked,) = server.requests
        assert asked.body["guardrailConfig"] == GUARD
        assert omitted(raised.value) == [()]

    def test_b2_a_throttle_in_such_words_leaves_nothing_out(
        self, server: WireServer, clients: Clients
    ) -> None:
        server.script(faults.status(429, message="This model doesn't support tool use."))
        with manager(target_of(clients), attempts=2) as llm:
            reply = ask(llm, "sync", **given(FEATURES, **FULL))
        assert reply.text == ANSWER
        assert omitted(reply) == [(), ()]
        assert all("toolConfig" in each.body for each in server.requests)

    def test_fields_go_one_by_one_and_are_reported_once(
        self, server: WireServer, clients: Clients
    ) -> None:
        server.script(
            *(
                faults.status(400, message=f"#: extraneous key [{key}] is not permitted")
                for key in ("top_k", "thinking")
            )
        )
        with manager(target_of(clients)) as llm:
            reply = ask(llm, "sync", **given(FEATURES, **FULL))
        name = "additionalModelRequestFields"
        left = [sorted(each.body.get(name, {})) for each in server.requests]
        assert left == [["thinking", "top_k"], ["thinking"], []]
        assert omitted(reply) == [("additional_fields",)]
        assert reply.details is not None
        assert reply.details["parameters_removed"] == ("thinking", "top_k")

    def test_a_feature_and_the_way_are_found_in_the_same_attempt(
        self, server: WireServer, clients: Clients
    ) -> None:
        words = "Retry your request with the ID or ARN of an inference profile"
        server.script(faults.status(400, message=words), NO_TOOLS)
        with manager(target_of(clients, DIRECT, REGIONAL)) as llm:
            reply = ask(llm, "sync", **given(FEATURES, **FULL))
        assert (reply.text, len(reply.ledger.sent)) == (ANSWER, 1)
        assert reply.details is not None
        assert reply.details["model_id"] == REGIONAL.model_id
        assert omitted(reply) == [("tools",)]

    def test_b6_the_next_request_is_sent_complete_again(
        self, server: WireServer, clients: Clients
    ) -> None:
        server.script(NO_TOOLS)
        with manager(target_of(clients)) as llm:
            for _ in range(2):
                ask(llm, "sync", **given(FEATURES, **FULL))
        asked = ["toolConfig" in each.body for each in server.requests]
        assert asked == [True, False, True]
